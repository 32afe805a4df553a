/* Memory goes back while threads start, end and fork: some threads allocate and leave holes, some
 * live for a moment, one forks, one asks for everything back. Figures and lists agree at the end. */
#include "t.h"
#include <dlfcn.h>

enum { BUSY = 3, SLOTS = 4000 };

static volatile int is_over;

static void *busy(void *number)
{
	static __thread void *slots[SLOTS];
	static __thread size_t sizes[SLOTS];
	uint64_t seed = 77 + (uintptr_t)number;

	for (uint64_t i = 1; !is_over; i++) {
		size_t at = t_next(&seed) % SLOTS;

		if (slots[at])
			VERIFY(slots[at], sizes[at], at);
		free(slots[at]);
		slots[at] = NULL;
		if (t_next(&seed) % 3) {
			sizes[at] = t_size(&seed, MIB(5));
			CHECK(slots[at] = malloc(sizes[at]));
			t_fill(slots[at], sizes[at], at);
		}
		/* Most goes, and rests until it is cold. */
		if (i % 20000 == 0) {
			for (size_t j = 0; j < SLOTS; j++)
				if (j % 16) {
					free(slots[j]);
					slots[j] = NULL;
				}
			usleep(100000);
		}
	}
	for (size_t j = 0; j < SLOTS; j++) {
		if (slots[j])
			VERIFY(slots[j], sizes[j], j);
		free(slots[j]);
	}
	return NULL;
}

static void *brief(void *unused)
{
	void *blocks[200];

	for (size_t i = 0; i < 200; i++)
		CHECK(blocks[i] = malloc(i * 40 + 1));
	for (size_t i = 0; i < 200; i++)
		free(blocks[i]);
	return unused;
}

static void *short_lives(void *unused)
{
	while (!is_over) {
		pthread_t threads[4];

		for (int i = 0; i < 4; i++)
			CHECK(pthread_create(&threads[i], NULL, brief, NULL) == 0);
		for (int i = 0; i < 4; i++)
			CHECK(pthread_join(threads[i], NULL) == 0);
	}
	return unused;
}

static void *forks(void *unused)
{
	while (!is_over) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (pid == 0) {
			brief(NULL);
			malloc_trim(0);
			brief(NULL);
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		usleep(5000);
	}
	return unused;
}

static void *trims(void *unused)
{
	while (!is_over) {
		malloc_trim(0);
		usleep(3000);
	}
	return unused;
}

int main(int argc, char **argv)
{
	int (*validate)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "zonal_validate");
	void *(*others[])(void *) = { short_lives, forks, trims };
	pthread_t threads[BUSY + 3];
	long seconds = t_long(argv, "seconds", 3);

	(void)argc;
	for (uintptr_t i = 0; i < BUSY; i++)
		CHECK(pthread_create(&threads[i], NULL, busy, (void *)i) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&threads[BUSY + i], NULL, others[i], NULL) == 0);
	sleep(seconds);
	is_over = 1;
	for (int i = 0; i < BUSY + 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	if (validate)
		CHECK(validate() == 0);
	return 0;
}
