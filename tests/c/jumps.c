/* A handler that does nothing but jump, from wherever malloc or free may be: what the jump left half done (a lock, a
 * heap that is entered) must not stop the program. `count=N` jumps; `plain=1` by longjmp, which leaves the handler's
 * signal mask; `stack=1` from an alternate stack; `nested=1` from a handler that interrupted another. */
#include "t.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static sigjmp_buf back;
static jmp_buf plainly;
static volatile long jumps;
static int plain, nested;

static void jump(int number)
{
	jmp_buf inside;

	/* A jump that stays in the handler goes where it says. */
	if (setjmp(inside) == 0)
		longjmp(inside, 1);
	if (nested && number == SIGALRM) {
		raise(SIGUSR1);
		FAIL("came back");
	}
	jumps++;
	if (plain)
		longjmp(plainly, 1);
	siglongjmp(back, 1);
}

static void forever(void)
{
	static char *volatile keep[1000];
	static volatile size_t size[1000];
	static volatile uint64_t seed = 4711;

	for (;;) {
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
}

int main(int argc, char **argv)
{
	struct itimerval timer = { { 0, 150 }, { 0, 150 } };
	struct sigaction action = { .sa_handler = jump };
	long count = t_long(argv, "count", 5000);
	sigset_t mask, none;

	(void)argc;
	plain = t_long(argv, "plain", 0);
	nested = t_long(argv, "nested", 0);
	if (t_long(argv, "stack", 0)) {
		static char alternate[1 << 20];
		stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };

		CHECK(sigaltstack(&stack, NULL) == 0);
		action.sa_flags = SA_ONSTACK;
	}
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	sigemptyset(&none);
	if (plain) {
		/* POSIX: longjmp leaves the mask alone, so it is the handler's, with its signal. */
		if (setjmp(plainly)) {
			CHECK(pthread_sigmask(SIG_SETMASK, &none, &mask) == 0);
			CHECK(sigismember(&mask, SIGALRM) == 1 && sigismember(&mask, SIGTERM) == 0);
		}
	} else if (sigsetjmp(back, 1)) {
		CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
		CHECK(sigismember(&mask, SIGALRM) == 0 && sigismember(&mask, SIGTERM) == 0);
	}
	/* The first signal comes when there is somewhere to jump to. */
	if (jumps == 0)
		setitimer(ITIMER_REAL, &timer, NULL);
	if (jumps < count)
		forever();
	memset(&timer, 0, sizeof timer);
	setitimer(ITIMER_REAL, &timer, NULL);
	int (*validate)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "zonal_validate");
	CHECK(!validate || validate() == 0);
	return 0;
}
