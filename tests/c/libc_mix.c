/* Memory that glibc gave out by itself ends in the exported functions, and callers of the __libc names. */
#include "t.h"
#include <dlfcn.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static const size_t sizes[] = { 0, 1, 24, 100, 1000, 5000, 40000, 200000, 3000000, 50000000 };
#define EACH(size) for (size_t t_i = 0, size; t_i < sizeof sizes / sizeof *sizes && (size = sizes[t_i], 1); t_i++)

static void libc_names(void)
{
	EACH(size) {
		void *p = __libc_malloc(size);

		t_fill(p, size, 1);
		VERIFY(p, size, 1);
		free(p);
		p = malloc(size);
		CHECK((p = __libc_realloc(p, size + 100)) != NULL);
		free(p);
		p = __libc_calloc(1, size);
		CHECK(t_is_zero(p, size));
		p = realloc(p, size + 5000);
		CHECK(t_is_zero(p, size));
		__libc_free(p);
		p = __libc_memalign(128, size);
		CHECK((uintptr_t)p % 128 == 0);
		free(p);
		__libc_free(malloc(size));
	}
}

/* glibc's own functions by a handle of libc.so: what a plugin with RTLD_DEEPBIND calls. */
static void from_glibc(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	void *(*glibc_malloc)(size_t) = (void *(*)(size_t))dlsym(libc, "malloc");
	void *(*glibc_memalign)(size_t, size_t) = (void *(*)(size_t, size_t))dlsym(libc, "memalign");
	void *kept[10];
	int n = 0;

	CHECK(glibc_malloc && glibc_memalign);
	EACH(size) {
		void *p = glibc_malloc(size), *q = glibc_malloc(size), *r = glibc_memalign(512, size);

		t_fill(p, size, 2);
		t_fill(q, size, 3);
		CHECK(malloc_usable_size(p) >= size);
		VERIFY(p, size, 2);
		free(p);
		CHECK((q = realloc(q, size * 2 + 10)) != NULL);
		VERIFY(q, size & ~(size_t)7, 3);
		free(q);
		free(r);
		kept[n++] = glibc_malloc(size);
	}
	/* Functions of glibc that allocate for the caller. */
	char *text = strdup("text"), *line = NULL, *made = NULL;
	size_t room = 0;
	FILE *zero = fopen("/proc/self/status", "r");
	if (zero) {
		while (getline(&line, &room, zero) > 0)
			;
		fclose(zero);
	}
	CHECK(asprintf(&made, "%s %d", text, 5) == 6);
	free(line);
	free(made);
	free(text);
	free(realpath("/", NULL));
	free(getcwd(NULL, 0));
	while (n)
		free(kept[--n]);
}

int main(void)
{
	libc_names();
	from_glibc();
	return 0;
}
