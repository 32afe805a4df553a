/* The main thread leaves by pthread_exit, and the last one ends with much to give back. The exit handlers then run on
 * whichever thread ends last, with as much stack as on any, and the exit status is 0.
 *
 * `pause=1`: prints the milliseconds from the end of the program's last thread to the handlers instead. */
#include "t.h"

static double last_ended;
static long wants_pause;

static void at_exit(void)
{
	char large[KIB(600)], *on_stack = large, *p = malloc(KIB(600));

	CHECK(p);
	HIDE(on_stack);
	memset(on_stack, 1, sizeof large);
	HIDE(on_stack);
	free(p);
	if (wants_pause)
		dprintf(1, "%.0f\n", (t_now() - last_ended) * 1e3);
	else
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
	last_ended = t_now();
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	(void)argc;
	wants_pause = t_long(argv, "pause", 0);
	CHECK(atexit(at_exit) == 0);
	CHECK(pthread_create(&thread, NULL, last, NULL) == 0);
	CHECK(pthread_detach(thread) == 0);
	pthread_exit(NULL);
}
