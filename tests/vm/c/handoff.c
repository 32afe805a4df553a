/* A producer on one node allocates mib=16 MiB, a consumer on another one frees it, forty rounds. The
 * blocks are always of the producer's node and go back there, and the consumer's own memory stays its
 * own node's. What the process holds does not grow any more after ten rounds: by a hundredth at most, or
 * with trim=1, where the background thread gives back what it comes by, and a round may find more or
 * less of it gone, by a sixteenth of what one round hands over, when all is freed and trimmed. So no
 * round loses more than a 480th of that. */
#include "nodes.h"

#define ROUNDS 40

static pthread_barrier_t full, empty;
static struct block *blocks;
static size_t nr;
static int from, to, from_home;

static void *consume(void *arg)
{
	uint64_t seed = 5, wanted;
	struct spread spread;
	struct block *own;
	size_t n;
	int round;

	(void)arg;
	pin(cpu_of(to));
	wanted = nearest(to);
	for (round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&full);
		drop(blocks, nr);
		pthread_barrier_wait(&empty);
	}
	/* Nothing of what was freed stayed here. */
	CHECK(figure(from_home, "remote_frees") > 0);
	CHECK(wanted >> from_home & 1 || figure(__builtin_ctzll(wanted), "nr_out") < 256);
	own = blocks_for(MIB(8));
	n = fill(own, MIB(8) / 64, MIB(8), &seed);
	spread = where(own, n);
	show("handoff: consumer's own", &spread);
	CHECK(among(&spread, wanted) * 1000 >= spread.all * 999);
	drop(own, n);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t bytes = MIB(t_long(argv, "mib", 16)), rss[ROUNDS], most = 0, all = 0, local = 0, early = 0;
	int trims = t_long(argv, "trim", 0);
	pthread_t consumer;
	uint64_t wanted;
	int round;

	(void)argc;
	from = t_long(argv, "from", 0);
	to = t_long(argv, "to", 3);
	pthread_barrier_init(&full, NULL, 2);
	pthread_barrier_init(&empty, NULL, 2);
	blocks = blocks_for(bytes);
	pin(cpu_of(from));
	wanted = nearest(from);
	from_home = __builtin_ctzll(wanted);
	CHECK(pthread_create(&consumer, NULL, consume, NULL) == 0);
	for (round = 0; round < ROUNDS; round++) {
		/* The same blocks in every round: what grows is the allocator's. */
		uint64_t seed = 17;
		struct spread spread;

		nr = fill(blocks, bytes / 64, bytes, &seed);
		spread = where(blocks, nr);
		all += spread.all;
		local += among(&spread, wanted);
		rss[round] = t_rss();
		pthread_barrier_wait(&full);
		pthread_barrier_wait(&empty);
		if (trims && round == 9)
			early = t_trimmed_rss(SIZE_MAX);
	}
	pthread_join(consumer, NULL);
	printf("handoff: %.3f %% local, resident %zu KiB in round 1, %zu in 10, %zu in %d\n",
	       100.0 * local / all, rss[0] >> 10, rss[9] >> 10, rss[ROUNDS - 1] >> 10, ROUNDS);
	CHECK(local * 1000 >= all * 999);
	if (trims) {
		size_t late = t_trimmed_rss(early + bytes / 16);

		printf("handoff: trimmed %zu KiB after round 10, %zu at the end\n", early >> 10, late >> 10);
		CHECK(late <= early + bytes / 16);
		return 0;
	}
	for (round = 0; round < 10; round++)
		most = rss[round] > most ? rss[round] : most;
	/* Two threads of one node share their freed runs: the consumer's caches fill for longer. */
	if (nearest(to) >> from_home & 1)
		most += MIB(4);
	for (; round < ROUNDS; round++)
		CHECK(rss[round] <= most + most / 100);
	return 0;
}
