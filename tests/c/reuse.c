/* Blocks of a thread that sleeps, freed by another one, which then asks for some of that size: whatever they are
 * made of, calloc's are zero, and nobody has one twice. Prints whether any of those freed are among them. */
#include "t.h"

#include <sched.h>

enum { SIZE = 3000, BLOCKS = 12000, MOST = 1000 };

static unsigned char *made[BLOCKS];
static pthread_barrier_t both;

static void *sleeper(void *arg)
{
	(void)arg;
	for (int i = 0; i < BLOCKS; i++) {
		made[i] = malloc(SIZE);
		CHECK(made[i]);
		memset(made[i], 0xa5, SIZE);
	}
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	return NULL;
}

static int was_freed(unsigned char *block, int from)
{
	for (int i = from; i < BLOCKS; i++)
		if (made[i] == block)
			return 1;
	return 0;
}

int main(void)
{
	static unsigned char *got[MOST];
	int left = BLOCKS, nr = 0, again = 0;
	pthread_t thread;
	cpu_set_t one;

	/* Blocks of another node's are not used again. */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	CHECK(!sched_setaffinity(0, sizeof one, &one));
	CHECK(!pthread_barrier_init(&both, NULL, 2));
	CHECK(!pthread_create(&thread, NULL, sleeper, NULL));
	pthread_barrier_wait(&both);
	while (left > BLOCKS / 4)
		free(made[--left]);
	/* Some of what is freed last is not sent yet. */
	for (int turn = 0; turn < 10; turn++) {
		for (int i = 0; i < 50; i++)
			free(made[--left]);
		for (int i = 0; i < 20; i++) {
			unsigned char *block = i % 2 ? malloc(SIZE) : calloc(3, SIZE / 3);

			CHECK(block);
			for (int at = 0; at < SIZE && i % 2 == 0; at++)
				CHECK(block[at] == 0);
			memset(block, nr % 251, SIZE);
			again += was_freed(block, left);
			got[nr++] = block;
		}
	}
	for (int i = 0; i < nr; i++) {
		for (int at = 0; at < SIZE; at++)
			CHECK(got[i][at] == i % 251);
		free(got[i]);
	}
	puts(again ? "again" : "new");
	pthread_barrier_wait(&both);
	CHECK(!pthread_join(thread, NULL));
	while (left)
		free(made[--left]);
	return 0;
}
