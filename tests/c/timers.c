/* Timers whose function runs in a thread (SIGEV_THREAD). The C library waits for their signal in a thread of its own,
 * in which it is blocked, and which allocates. Much lies free when that thread makes its first call, so that it is the
 * one who starts a background thread; the signal must still be blocked after that. `count=N` */
#include "t.h"
#include <signal.h>
#include <semaphore.h>

static sem_t done;
static long left;

static void expired(union sigval value)
{
	char *p = malloc(20000);

	(void)value;
	CHECK(p);
	memset(p, 1, 20000);
	free(p);
	if (__atomic_sub_fetch(&left, 1, __ATOMIC_RELAXED) == 0)
		sem_post(&done);
}

int main(int argc, char **argv)
{
	enum { N = 300 };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = expired };
	struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } };
	char *block[N];
	timer_t timer;

	(void)argc;
	left = t_long(argv, "count", 100);
	CHECK(sem_init(&done, 0, 0) == 0);
	for (int i = 0; i < N; i++) {
		CHECK((block[i] = malloc(KIB(200))) != NULL);
		memset(block[i], 1, KIB(200));
	}
	for (int i = 0; i < N; i++)
		free(block[i]);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &often, NULL) == 0);
	while (sem_wait(&done) != 0)
		CHECK(errno == EINTR);
	CHECK(timer_delete(timer) == 0);
	return 0;
}
