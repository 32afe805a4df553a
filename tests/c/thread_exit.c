/* The end of a thread: destructors of keys that allocate and free in every round, more keys than glibc keeps inline
 * (pthread_setspecific then calls calloc), cancellation with cleanup handlers, and detached threads at process exit. */
#include "t.h"
#include <limits.h>
#include <semaphore.h>

enum { KEYS = 40 };
static pthread_key_t key[KEYS];
static int destroyed;

struct item {
	int key, rounds;
	char text[100];
};

static void destroy(void *arg)
{
	struct item *item = arg;
	char *again[50];

	CHECK(!strcmp(item->text, "thread specific"));
	for (int i = 0; i < 50; i++) {
		CHECK((again[i] = malloc(20 + i * 30)) != NULL);
		memset(again[i], i, 20 + i * 30);
	}
	for (int i = 0; i < 50; i++) {
		CHECK(*again[i] == i);
		free(again[i]);
	}
	if (item->rounds-- > 0) {
		struct item *next = malloc(sizeof *next);

		*next = *item;
		CHECK(pthread_setspecific(key[item->key], next) == 0);
	} else {
		__atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
	}
	free(item);
}

static void *with_keys(void *arg)
{
	(void)arg;
	for (int k = 0; k < KEYS; k++) {
		struct item *item = calloc(1, sizeof *item);

		item->key = k;
		item->rounds = k % _POSIX_THREAD_DESTRUCTOR_ITERATIONS;
		strcpy(item->text, "thread specific");
		CHECK(pthread_setspecific(key[k], item) == 0);
	}
	return NULL;
}

static void key_destructors(void)
{
	enum { THREADS = 300 };
	pthread_t thread[4];

	for (int k = 0; k < KEYS; k++)
		CHECK(pthread_key_create(&key[k], destroy) == 0);
	for (int i = 0; i < THREADS; i += 4) {
		for (int t = 0; t < 4; t++)
			CHECK(pthread_create(&thread[t], NULL, with_keys, NULL) == 0);
		for (int t = 0; t < 4; t++)
			pthread_join(thread[t], NULL);
	}
	CHECK(destroyed == THREADS * KEYS);
}

static sem_t ready, never;

static void cleanup(void *block)
{
	VERIFY(block, 3000, 5);
	free(block);
	free(malloc(700));
}

static void *cancelled(void *arg)
{
	char *block = malloc(3000);

	t_fill(block, 3000, 5);
	pthread_cleanup_push(cleanup, block);
	if (arg) {
		/* Allocates and frees until it meets a cancellation point. */
		sem_post(&ready);
		for (;;) {
			free(malloc(200));
			pthread_testcancel();
		}
	}
	sem_post(&ready);
	sem_wait(&never);
	pthread_cleanup_pop(1);
	return NULL;
}

static void cancellation(void)
{
	sem_init(&ready, 0, 0);
	sem_init(&never, 0, 0);
	for (long i = 0; i < 1000; i++) {
		pthread_t thread;
		void *result;

		CHECK(pthread_create(&thread, NULL, cancelled, (void *)(i % 2)) == 0);
		sem_wait(&ready);
		CHECK(pthread_cancel(thread) == 0);
		CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
	}
}

static void *busy(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	void *block[64] = { 0 };

	for (;;) {
		int k = t_next(&seed) % 64;

		free(block[k]);
		block[k] = malloc(t_size(&seed, KIB(100)));
	}
	return NULL;
}

static void at_exit(void)
{
	char *p = malloc(100000);

	CHECK(p);
	memset(p, 1, 100000);
	free(p);
}

int main(void)
{
	pthread_t thread;

	key_destructors();
	cancellation();
	/* The process ends while others are inside malloc. */
	for (long i = 1; i <= 3; i++) {
		CHECK(pthread_create(&thread, NULL, busy, (void *)i) == 0);
		pthread_detach(thread);
	}
	usleep(20000);
	atexit(at_exit);
	return 0;
}
