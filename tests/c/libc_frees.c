/* The C library may call free with a lock held for which pthread_create asks: pthread_join does, once it keeps more
 * than 40 MB of stacks. So no thread is started in a free that comes from there, but in a later call of the program. */
#include "t.h"
#include <dlfcn.h>
#include <pthread.h>
#include <search.h>
#include <semaphore.h>

enum { NODES = 100000, BLOCKS = 20000, SIZE = 2000 };
static void *block[BLOCKS];
static sem_t over;
/* Volatile: the compiler knows that free calls nothing of the program. */
static volatile int in_libc, nr_created, nr_seen;

/* Stands before the C library's, for zonal as well. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *argument)
{
	int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	*(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
	CHECK(!in_libc);
	nr_created++;
	return create(thread, attr, run, argument);
}

static int compare(const void *a, const void *b)
{
	return (a > b) - (a < b);
}

/* The last node is freed by a jump: its free returns to the program. */
static void next_node(void *key)
{
	(void)key;
	if (++nr_seen == NODES)
		in_libc = 0;
	/* Large blocks, which the thread keeps, in the middle of it. */
	for (int i = 0; nr_seen == NODES / 2 && i < 5000; i++) {
		in_libc = 0;
		CHECK(hcreate(4000));
		in_libc = 1;
		hdestroy();
	}
}

static void fill(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		CHECK((block[i] = malloc(SIZE)) != NULL);
		memset(block[i], 1, SIZE);
	}
}

static void *wait_for(void *unused)
{
	sem_wait(&over);
	return unused;
}

int main(void)
{
	void *root = NULL;
	pthread_t thread;

	/* Small steps that make a tree of the C library's: scattered keys, or it would be a list. */
	for (unsigned i = 0; i < NODES; i++)
		CHECK(tsearch((void *)(size_t)(i * 2654435761u + 1ul), &root, compare) != NULL);
	fill();
	CHECK(pthread_create(&thread, NULL, wait_for, NULL) == 0);

	in_libc = 1;
	tdestroy(root, next_node);
	CHECK(nr_seen == NODES);

	for (int round = 0; nr_created == 1; round++) {
		CHECK(round < 1000);
		for (int i = 0; i < BLOCKS; i++)
			free(block[i]);
		fill();
	}
	sem_post(&over);
	CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}
