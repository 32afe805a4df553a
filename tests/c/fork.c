/* fork in a process whose other threads allocate all the time. Each child validates the heap, checks and frees what
 * the vanished threads held, allocates by itself and (every `every`th) with threads of its own, forks once more now
 * and then, and leaves by exit or _exit. `count=N every=M`; `late=FILTER`: the thread that forks is under a seccomp
 * filter, the others are not, as in a server that confines itself. */
#include "filter.h"
#include <dlfcn.h>

enum { THREADS = 3, SLOTS = 200 };

struct slot {
	void *block;
	size_t size;
	uint64_t tag;
};

static struct slot slot[THREADS][SLOTS];
static int stop;
static int (*validate)(void);

static void *busy(void *arg)
{
	struct slot *mine = slot[(uintptr_t)arg];
	uint64_t seed = 17 + (uintptr_t)arg * 104729;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct slot *s = &mine[t_next(&seed) % SLOTS];
		void *p = __atomic_exchange_n(&s->block, NULL, __ATOMIC_ACQ_REL);

		if (p) {
			VERIFY(p, s->size, s->tag);
			free(p);
		}
		s->size = t_size(&seed, KIB(150));
		s->tag = t_next(&seed);
		CHECK((p = malloc(s->size)) != NULL);
		t_fill(p, s->size, s->tag);
		__atomic_store_n(&s->block, p, __ATOMIC_RELEASE);
		/* Two processors serve four threads: leave some of them to the children. */
		if (t_next(&seed) % 64 == 0)
			usleep(50);
	}
	return NULL;
}

static void valid(const char *when)
{
	int found = validate ? validate() : 0;

	if (found)
		FAIL("zonal_validate %s: %d", when, found);
}

static void *in_child(void *arg)
{
	uint64_t seed = 23 + (uintptr_t)arg;
	void *block[100];

	for (int i = 0; i < 100; i++) {
		CHECK((block[i] = malloc(100 + t_size(&seed, KIB(64)))) != NULL);
		t_fill(block[i], 100, i);
	}
	for (int i = 0; i < 100; i++) {
		VERIFY(block[i], 100, i);
		free(block[i]);
	}
	return NULL;
}

static void child(long number, long every)
{
	valid("in the child");
	for (int t = 0; t < THREADS; t++)
		for (int i = 0; i < SLOTS; i++) {
			struct slot *s = &slot[t][i];

			if (s->block) {
				VERIFY(s->block, s->size, s->tag);
				if (i % 3 == 0) {
					CHECK((s->block = realloc(s->block, s->size + 5000)) != NULL);
					CHECK(t_differs(s->block, s->size, s->size, s->tag) < 0);
				}
				free(s->block);
			}
		}
	in_child(NULL);
	if (number % every == 0) {
		pthread_t thread[3];
		pid_t pid;

		for (long i = 0; i < 3; i++)
			CHECK(pthread_create(&thread[i], NULL, in_child, (void *)i) == 0);
		for (int i = 0; i < 3; i++)
			pthread_join(thread[i], NULL);
		CHECK((pid = fork()) >= 0);
		if (pid == 0) {
			in_child(NULL);
			_exit(0);
		}
		int status;
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	valid("at the end of the child");
	if (number % 5 == 0)
		exit(0);
	_exit(0);
}

int main(int argc, char **argv)
{
	long count = t_long(argv, "count", 10000), every = t_long(argv, "every", 20);
	const char *filter = t_arg(argv, "late", NULL);
	pthread_t thread[THREADS];
	size_t early = 0;

	(void)argc;
	validate = (int (*)(void))dlsym(RTLD_DEFAULT, "zonal_validate");
	if (t_long(argv, "zonal", 0))
		CHECK(validate != NULL);
	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, busy, (void *)i) == 0);
	if (filter)
		filter_install(filter);
	for (long number = 1; number <= count; number++) {
		int status;
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			alarm(60);
			child(number, every);
		}
		in_child((void *)number);
		CHECK(waitpid(pid, &status, 0) == pid);
		if (status)
			FAIL("child %ld ended with status %#x", number, status);
		if (number == count / 5 && !filter)
			early = t_trimmed_rss(SIZE_MAX);
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	/* Without the barrier a trim does not reach what other threads keep. */
	if (filter)
		return 0;
	size_t now = t_trimmed_rss(early + MIB(2));
	printf("resident %zu KiB early, %zu KiB at the end\n", early >> 10, now >> 10);
	if (now > early + MIB(2))
		FAIL("the parent grew from %zu to %zu KiB", early >> 10, now >> 10);
	return 0;
}
