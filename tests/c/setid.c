/* Calls that glibc carries out on every thread by a signal (SETXID) while those threads allocate; a helper thread of
 * the allocator that blocks this signal would hang them. */
#include "t.h"

static int stop;

static void *busy(void *arg)
{
	t_churn(3 + (uintptr_t)arg, &stop);
	return NULL;
}

int main(void)
{
	pthread_t thread[3];

	for (long i = 0; i < 3; i++)
		CHECK(pthread_create(&thread[i], NULL, busy, (void *)i) == 0);
	for (int i = 0; i < 150; i++) {
		CHECK(setresuid(getuid(), geteuid(), -1) == 0);
		CHECK(setresgid(getgid(), getegid(), -1) == 0);
		CHECK(setuid(getuid()) == 0);
	}
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	return 0;
}
