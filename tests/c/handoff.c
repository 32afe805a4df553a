/* Blocks freed by another thread than their maker: a ring of threads, one producer with many consumers, many
 * producers with one consumer, and random exchange through shared slots; all contents are checked before free. */
#include "t.h"

struct block {
	size_t size;
	uint64_t tag;
};

static struct block *make(uint64_t *seed)
{
	size_t size = sizeof(struct block) + t_size(seed, KIB(300));
	struct block *b = malloc(size);

	CHECK(b);
	b->size = size;
	b->tag = t_next(seed);
	t_fill(b + 1, size - sizeof *b, b->tag);
	return b;
}

static void check_and_free(struct block *b)
{
	VERIFY(b + 1, b->size - sizeof *b, b->tag);
	b->tag = 0;
	free(b);
}

/* Random exchange: every thread puts its block into a slot and frees the one that lay there. */
enum { SLOTS = 512, THREADS = 4 };
static struct block *slot[SLOTS];
static long rounds;

static void *exchange(void *arg)
{
	uint64_t seed = 77 + (uintptr_t)arg * 1000003;

	for (long i = 0; i < rounds; i++) {
		struct block *mine = make(&seed);
		struct block *other = __atomic_exchange_n(&slot[t_next(&seed) % SLOTS], mine, __ATOMIC_ACQ_REL);

		if (other)
			check_and_free(other);
	}
	return NULL;
}

/* A bounded queue between two groups. */
static struct block *queue[256];
static size_t head, tail;
static int producers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *produce(void *arg)
{
	uint64_t seed = 5 + (uintptr_t)arg * 7919;

	for (long i = 0; i < rounds; i++) {
		struct block *b = make(&seed);

		pthread_mutex_lock(&lock);
		while (head - tail == 256)
			pthread_cond_wait(&changed, &lock);
		queue[head++ % 256] = b;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_lock(&lock);
	producers--;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void *consume(void *arg)
{
	(void)arg;
	for (;;) {
		struct block *batch[64];
		int n = 0;

		pthread_mutex_lock(&lock);
		while (head == tail && producers)
			pthread_cond_wait(&changed, &lock);
		while (head != tail && n < 64)
			batch[n++] = queue[tail++ % 256];
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
		if (n == 0)
			return NULL;
		while (n)
			check_and_free(batch[--n]);
	}
}

static void run(int makers, int takers)
{
	pthread_t thread[16];
	int n = 0;

	producers = makers;
	for (long i = 0; i < makers; i++)
		CHECK(pthread_create(&thread[n++], NULL, produce, (void *)i) == 0);
	for (long i = 0; i < takers; i++)
		CHECK(pthread_create(&thread[n++], NULL, consume, (void *)i) == 0);
	while (n)
		pthread_join(thread[--n], NULL);
}

/* A thread makes all, ends, and only then others free. */
static void *make_all(void *arg)
{
	struct block **all = arg;
	uint64_t seed = 4711;

	for (int i = 0; i < 5000; i++)
		all[i] = make(&seed);
	return NULL;
}

static void *free_all(void *arg)
{
	struct block **all = arg;

	for (int i = 0; i < 5000; i++)
		check_and_free(all[(i * 7) % 5000]);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS];
	size_t first = 0;

	(void)argc;
	rounds = t_long(argv, "rounds", 40000);
	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, exchange, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < SLOTS; i++)
		if (slot[i])
			check_and_free(slot[i]);
	run(1, 1);
	run(1, 4);
	run(4, 1);
	run(3, 3);
	/* What dead threads left is used again: the size must not climb. */
	for (int round = 0; round < 20; round++) {
		struct block **all = malloc(5000 * sizeof *all);

		pthread_create(&thread[0], NULL, make_all, all);
		pthread_join(thread[0], NULL);
		pthread_create(&thread[0], NULL, free_all, all);
		pthread_join(thread[0], NULL);
		free(all);
		if (round == 4)
			first = t_trimmed_rss(SIZE_MAX);
	}
	size_t bound = first + first / 4 + MIB(4), now = t_trimmed_rss(bound);

	if (now > bound)
		FAIL("resident size grew from %zu to %zu KiB", first >> 10, now >> 10);
	return 0;
}
