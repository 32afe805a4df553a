/* The library opened at run time, beside the allocator that the program already has; closed and opened again while
 * threads that used it come and go. `dlopen library=PATH` */
#include "t.h"
#include <dlfcn.h>

static void *(*make)(size_t), *(*make_zero)(size_t, size_t), *(*grow)(void *, size_t);
static void (*drop)(void *);

static void *use(void *arg)
{
	uint64_t seed = 5 + (uintptr_t)arg;
	char *block[300];
	size_t size[300];

	for (int i = 0; i < 300; i++) {
		size[i] = t_size(&seed, MIB(1));
		CHECK((block[i] = i % 3 ? make(size[i]) : make_zero(1, size[i])) != NULL);
		CHECK(i % 3 || t_is_zero(block[i], size[i]));
		t_fill(block[i], size[i], i);
	}
	for (int i = 0; i < 300; i++) {
		VERIFY(block[i], size[i], i);
		if (i % 5 == 0)
			CHECK((block[i] = grow(block[i], size[i] * 2)) != NULL);
		drop(block[i]);
	}
	return arg;
}

int main(int argc, char **argv)
{
	const char *path = t_arg(argv, "library", "libzonal.so");
	pthread_t thread;

	(void)argc;
	for (long round = 0; round < 20; round++) {
		void *library = dlopen(path, RTLD_NOW | (round % 2 ? RTLD_LOCAL : RTLD_GLOBAL));
		char *own = malloc(1000);

		if (!library)
			FAIL("%s", dlerror());
		make = (void *(*)(size_t))dlsym(library, "malloc");
		make_zero = (void *(*)(size_t, size_t))dlsym(library, "calloc");
		grow = (void *(*)(void *, size_t))dlsym(library, "realloc");
		drop = (void (*)(void *))dlsym(library, "free");
		CHECK(make && make_zero && grow && drop);
		use((void *)round);
		CHECK(pthread_create(&thread, NULL, use, (void *)round) == 0);
		pthread_join(thread, NULL);
		/* Our own allocator's memory is none of its business, and the other way round. */
		free(own);
		CHECK(dlclose(library) == 0);
		/* A thread that used it ends after it was closed. */
		CHECK(pthread_create(&thread, NULL, (void *(*)(void *))usleep, (void *)100) == 0);
		pthread_join(thread, NULL);
	}
	return 0;
}
