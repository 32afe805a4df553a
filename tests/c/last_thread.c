/* The main thread leaves by pthread_exit, and the last one ends with much to give back. The exit handlers then run on
 * whichever thread ends last, with as much stack as on any, and the exit status is 0. */
#include "t.h"

static void at_exit(void)
{
	char large[KIB(600)], *on_stack = large, *p = malloc(KIB(600));

	CHECK(p);
	HIDE(on_stack);
	memset(on_stack, 1, sizeof large);
	HIDE(on_stack);
	free(p);
	CHECK(write(1, "done\n", 5) == 5);
}

static void *last(void *arg)
{
	enum { N = 300 };
	char *block[N];

	for (int i = 0; i < N; i++) {
		CHECK((block[i] = malloc(KIB(200))) != NULL);
		memset(block[i], 1, KIB(200));
	}
	for (int i = 0; i < N; i++)
		free(block[i]);
	for (int i = 0; i < 100; i++)
		free(malloc(KIB(300)));
	return arg;
}

int main(void)
{
	pthread_t thread;

	CHECK(atexit(at_exit) == 0);
	CHECK(pthread_create(&thread, NULL, last, NULL) == 0);
	CHECK(pthread_detach(thread) == 0);
	pthread_exit(NULL);
}
