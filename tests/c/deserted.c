/* A program opens the library for one thread, which frees much and ends. No thread has a heap then, and the program goes
 * on: what was freed goes back all the same. */
#include "t.h"
#include <dlfcn.h>

static void *(*its_malloc)(size_t);
static void (*its_free)(void *);

static void *work(void *peak)
{
	enum { N = 500 };
	static char *block[N];

	for (int i = 0; i < N; i++) {
		CHECK((block[i] = its_malloc(KIB(200))) != NULL);
		memset(block[i], 1, KIB(200));
	}
	*(size_t *)peak = t_rss();
	for (int i = 0; i < N; i++)
		its_free(block[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	void *library;
	pthread_t thread;
	size_t peak = 0;

	CHECK(argc == 2 && (library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL)) != NULL);
	CHECK((its_malloc = (void *(*)(size_t))dlsym(library, "malloc")) != NULL);
	CHECK((its_free = (void (*)(void *))dlsym(library, "free")) != NULL);
	CHECK(!pthread_create(&thread, NULL, work, &peak) && !pthread_join(thread, NULL));
	for (int i = 0; t_rss() > peak / 2; i++) {
		CHECK(i < 6000);
		usleep(10000);
	}
	return 0;
}
