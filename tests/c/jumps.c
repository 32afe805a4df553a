/* A handler that does nothing but jump, from wherever malloc or free may be: what the jump left half done (a lock, a
 * heap that is entered) must not stop the program. `count=N` jumps. */
#include "t.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static sigjmp_buf back;
static volatile long jumps;

static void jump(int number)
{
	(void)number;
	jumps++;
	siglongjmp(back, 1);
}

int main(int argc, char **argv)
{
	static char *volatile keep[1000];
	static volatile size_t size[1000];
	static volatile uint64_t seed = 4711;
	struct itimerval timer = { { 0, 150 }, { 0, 150 } };
	long count = t_long(argv, "count", 5000);

	(void)argc;
	signal(SIGALRM, jump);
	sigsetjmp(back, 1);
	setitimer(ITIMER_REAL, &timer, NULL);
	while (jumps < count) {
		uint64_t next = seed;
		int k = t_next(&next) % 1000;
		char *p = keep[k];

		seed = next;
		/* Emptied before free, filled after malloc: a jump loses a block at most. */
		if (p)
			VERIFY(p, size[k], (uint64_t)k);
		keep[k] = NULL;
		free(p);
		size[k] = t_size(&next, KIB(300));
		CHECK((p = malloc(size[k])) != NULL);
		t_fill(p, size[k], k);
		keep[k] = p;
	}
	return 0;
}
