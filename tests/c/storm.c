/* Signals whose handlers allocate and free while every thread does the same, then jumps out of the handler.
 * Each thread and each handler keeps its own table of patterned blocks: one block handed out twice overwrites
 * a pattern. `seconds=N jump=0|1` */
#include "t.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

enum { THREADS = 3, OWN = 400, HANDLER = 32 };

struct table {
	void *block[OWN];
	size_t size[OWN];
	uint64_t tag[OWN], seed;
	int n;
	/* A handler may interrupt another on the same thread only when told so: all are masked. */
};

static __thread struct table in_handler;
static __thread sigjmp_buf *escape;
static long handled, jumped;
static int stop;

/* Frees what lay in a random slot and puts a new block there. The slot is emptied before free and filled after malloc,
 * so that a jump out of either loses a block at most. */
static void step(struct table *t, size_t max)
{
	int k = t_next(&t->seed) % t->n;
	void *old = t->block[k];
	size_t size = t_size(&t->seed, max);
	uint64_t tag = t_next(&t->seed);
	void *p;

	if (old) {
		VERIFY(old, t->size[k], t->tag[k]);
		t->block[k] = NULL;
		__asm__ volatile("" ::: "memory");
		free(old);
	}
	switch (tag % 8) {
	case 0:
		p = calloc(1, size);
		CHECK(!p || t_is_zero(p, size));
		break;
	case 1:
		p = memalign(128, size);
		CHECK((uintptr_t)p % 128 == 0);
		break;
	case 2:
		p = realloc(malloc(size / 2 + 1), size);
		break;
	default:
		p = malloc(size);
	}
	CHECK(p);
	CHECK((uintptr_t)p % 16 == 0 || size <= 8);
	t_fill(p, size, tag);
	t->size[k] = size;
	t->tag[k] = tag;
	__asm__ volatile("" ::: "memory");
	t->block[k] = p;
}

static void on_signal(int number)
{
	int kept = errno;

	(void)number;
	if (in_handler.n == 0) {
		in_handler.n = HANDLER;
		in_handler.seed = 1 + (uintptr_t)&in_handler;
	}
	for (int i = 0; i < 4; i++)
		step(&in_handler, i == 3 ? MIB(1) : 2000);
	errno = kept;
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
	if (escape && t_next(&in_handler.seed) % 4 == 0) {
		__atomic_add_fetch(&jumped, 1, __ATOMIC_RELAXED);
		siglongjmp(*escape, 1);
	}
}

static void *work(void *arg)
{
	static __thread struct table mine;
	sigjmp_buf here;

	mine.n = OWN;
	mine.seed = 31 + (uintptr_t)arg * 1299709;
	if (arg == NULL) {
		/* Only the first thread is thrown out of malloc: one is enough to leave its heap half done. */
		sigsetjmp(here, 1);
		escape = &here;
	}
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		for (int i = 0; i < 50; i++)
			step(&mine, KIB(300));
	escape = NULL;
	__asm__ volatile("" ::: "memory");
	for (int k = 0; k < OWN; k++)
		if (mine.block[k]) {
			VERIFY(mine.block[k], mine.size[k], mine.tag[k]);
			free(mine.block[k]);
			mine.block[k] = NULL;
		}
	return NULL;
}

static void *work_without_jumps(void *arg)
{
	return work((char *)arg + 1);
}

static int enough(int jump)
{
	return __atomic_load_n(&handled, __ATOMIC_RELAXED) > 1000 && (!jump || __atomic_load_n(&jumped, __ATOMIC_RELAXED) > 100);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval timer = { { 0, 150 }, { 0, 150 } };
	pthread_t thread[THREADS];
	int jump = t_long(argv, "jump", 0);
	sigset_t set;

	(void)argc;
	double until = t_now() + t_long(argv, "seconds", 3);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGUSR1);
	action.sa_mask = set;
	action.sa_flags = SA_RESTART;
	CHECK(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
	/* glibc's pthread_create must not be thrown out of: signals start when all threads exist. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	sigset_t none;
	sigemptyset(&none);
	pthread_attr_setsigmask_np(&attr, &none);
	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], &attr, jump && i == 0 ? work : work_without_jumps, (void *)i) == 0);
	setitimer(ITIMER_REAL, &timer, NULL);
	/* A busy machine takes longer for as many. */
	while (t_now() < until || !enough(jump)) {
		for (int i = 0; i < THREADS; i++)
			pthread_kill(thread[i], SIGUSR1);
		usleep(100);
	}
	memset(&timer, 0, sizeof timer);
	setitimer(ITIMER_REAL, &timer, NULL);
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	printf("%ld signals handled, %ld jumps\n", handled, jumped);
	return 0;
}
