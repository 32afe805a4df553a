/* Frees of what is no live block: each case must end in one line on stderr and SIGABRT.
 * `bad case=NAME size=N [end=exit]`. The program prints the address on stdout first, so that the line can be compared. */
#include "t.h"


static char in_data[256] __attribute__((aligned(64)));

static void announce(void *p)
{
	char text[64];
	int n = snprintf(text, sizeof text, "%lx\n", (unsigned long)(uintptr_t)p);

	CHECK(write(1, text, n) == n);
}

static void *free_elsewhere(void *p)
{
	free(p);
	return NULL;
}

struct inside {
	size_t size;
	size_t at;
};

static void *interior_of_own(void *argument)
{
	struct inside *inside = argument;
	char *p = malloc(inside->size);

	CHECK(p);
	p += inside->at;
	announce(p);
	HIDE(p);
	free(p);
	return NULL;
}

int main(int argc, char **argv)
{
	const char *name = t_arg(argv, "case", "");
	size_t size = t_long(argv, "size", 32);
	char on_stack[64] __attribute__((aligned(64)));
	char *neighbour = malloc(size), *p = malloc(size), *q;
	pthread_t thread;

	(void)argc;
	CHECK(neighbour && p);
	t_fill(p, size, 1);
	q = p;
	HIDE(p);
	HIDE(q);
	if (!strcmp(name, "double")) {
		announce(p);
		free(p);
		free(q);
	} else if (!strcmp(name, "double-next")) {
		announce(p);
		free(p);
		free(neighbour);
		free(q);
	} else if (!strcmp(name, "double-far")) {
		/* With thousands freed after it, so that it left the bin, and its slab perhaps the heap. */
		static char *many[5000];
		int n = size > 100000 ? 50 : 5000;

		announce(p);
		for (int i = 0; i < n; i++)
			CHECK(many[i] = malloc(size));
		free(p);
		for (int i = 0; i < n; i++)
			free(many[i]);
		free(q);
	} else if (!strcmp(name, "double-both")) {
		/* First elsewhere, then here. */
		announce(p);
		CHECK(pthread_create(&thread, NULL, free_elsewhere, p) == 0);
		pthread_join(thread, NULL);
		free(q);
	} else if (!strcmp(name, "double-later")) {
		/* With others freed and allocated between, but never this one again. */
		char *between[64];

		announce(p);
		for (int i = 0; i < 64; i++)
			between[i] = malloc(size);
		free(p);
		for (int i = 0; i < 64; i++)
			free(between[i]);
		free(q);
	} else if (!strcmp(name, "double-remote")) {
		announce(p);
		free(p);
		CHECK(pthread_create(&thread, NULL, free_elsewhere, q) == 0);
		pthread_join(thread, NULL);
	} else if (!strcmp(name, "double-after-exit")) {
		announce(p);
		CHECK(pthread_create(&thread, NULL, free_elsewhere, p) == 0);
		pthread_join(thread, NULL);
		free(q);
	} else if (!strcmp(name, "interior")) {
		p += size / 2 & ~(size_t)15;
		announce(p);
		free(p);
	} else if (!strcmp(name, "interior-at")) {
		p += t_long(argv, "at", 8);
		announce(p);
		free(p);
	} else if (!strcmp(name, "interior-remote")) {
		p += t_long(argv, "at", 8);
		announce(p);
		CHECK(pthread_create(&thread, NULL, free_elsewhere, p) == 0);
		pthread_join(thread, NULL);
	} else if (!strcmp(name, "interior-thread")) {
		/* Freed by its owner, whose thread ends next. */
		struct inside inside = { size, t_long(argv, "at", 8) };

		CHECK(pthread_create(&thread, NULL, interior_of_own, &inside) == 0);
		pthread_join(thread, NULL);
	} else if (!strcmp(name, "interior-odd")) {
		p += 1;
		announce(p);
		free(p);
	} else if (!strcmp(name, "stack")) {
		p = on_stack;
		HIDE(p);
		announce(p);
		free(p);
	} else if (!strcmp(name, "data")) {
		p = in_data;
		HIDE(p);
		announce(p);
		free(p);
	} else if (!strcmp(name, "mapped")) {
		p = mmap(NULL, KIB(64), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		announce(p);
		free(p);
	} else if (!strcmp(name, "low")) {
		p = (char *)(uintptr_t)64;
		HIDE(p);
		announce(p);
		free(p);
	} else if (!strcmp(name, "non-canonical")) {
		p = (char *)(uintptr_t)0x8000123412340000ull;
		HIDE(p);
		announce(p);
		free(p);
	} else if (!strcmp(name, "realloc-freed")) {
		announce(p);
		free(p);
		q = realloc(q, size + 200000);
		HIDE(q);
	} else if (!strcmp(name, "realloc-interior")) {
		p += size / 2 & ~(size_t)15;
		announce(p);
		q = realloc(p, size + 200000);
		HIDE(q);
	} else {
		FAIL("no case %s", name);
	}
	static const char survived[] = "survived\n";
	if (*t_arg(argv, "end", "")) {
		CHECK(write(2, survived, sizeof survived - 1) > 0);
		exit(3);
	}
	/* Still here: let what is lazy notice it, then tell that it survived. */
	malloc_trim(0);
	free(neighbour);
	CHECK(write(1, survived, sizeof survived - 1) > 0);
	_exit(3);
}
