/* Who does the rounds of reclaim changes: first the program's own calls, then a background thread while there is
 * another thread, then calls again, since no thread can be started any more: in the same process, or in a forked
 * child. What was in use meanwhile and is freed then must not count as cold. */
#include "filter.h"
#include <semaphore.h>

enum { BLOCKS = 6, SIZE = 3 << 20 };
static char *block[BLOCKS];
static sem_t over;

static void fill(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		CHECK((block[i] = malloc(SIZE)) != NULL);
		memset(block[i], 1, SIZE);
	}
}

static void churn(int nr)
{
	for (int i = 0; i < nr; i++) {
		char *p = malloc(300000);

		HIDE(p);
		free(p);
	}
}

static void *wait_for(void *unused)
{
	while (sem_wait(&over)) {
	}
	return unused;
}

/* Enough calls for two looks at the clock, so few that pauses between them make nothing cold: what they count
 * for is less than its age, however long they are. */
static void leave_and_look(void)
{
	size_t before = t_rss(), after;

	filter_install("EAGAIN:clone3,clone");
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
	churn(17);
	after = t_rss();
	if (after < before - before / 4)
		FAIL("%zu of %zu bytes are left of what was freed just now", after, before);
}

int main(void)
{
	pthread_t thread;
	int status;

	/* A round by calls of the program. */
	fill();
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
	churn(100);
	fill();
	CHECK(!sem_init(&over, 0, 0) && !pthread_create(&thread, NULL, wait_for, NULL));
	for (int i = 0; t_proc("/proc/self/status", "Threads:") < 3; i++) {
		CHECK(i < 1000);
		churn(100);
		usleep(10000);
	}
	for (int i = 0; t_proc("/proc/self/status", "Threads:") == 3; i++) {
		CHECK(i < 60000);
		usleep(1000);
	}
	pid_t child = fork();

	if (child == 0) {
		leave_and_look();
		_exit(0);
	}
	leave_and_look();
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}
