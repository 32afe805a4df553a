/* No call of malloc is a place where a cancelled thread ends, not even one that writes a line. */
#include "t.h"

void free_sized(void *, size_t) __attribute__((weak));

static int reached;

static void *cancelled(void *arg)
{
	char *p = malloc(1000);

	CHECK(p);
	CHECK(pthread_cancel(pthread_self()) == 0);
	free_sized(p, 100);
	for (int i = 0; i < 1000; i++)
		free(malloc(i * 97));
	reached = 1;
	pthread_testcancel();
	return arg;
}

int main(void)
{
	pthread_t thread;
	void *result;

	CHECK(free_sized != NULL);
	CHECK(pthread_create(&thread, NULL, cancelled, NULL) == 0);
	CHECK(pthread_join(thread, &result) == 0);
	CHECK(reached && result == PTHREAD_CANCELED);
	return 0;
}
