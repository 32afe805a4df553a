/* Policies of ZONAL_CONF, or of the process: case=
 *
 *   interleave   mib= MiB: each node of nodes=0x.. has its share within 1 % of all pages: the same
 *                for all, or by weights=, a digit for each node from 0 on
 *   bind         mib= MiB: every page on nodes=0x..
 *   full         until malloc answers NULL: that it does, with ENOMEM, after least= MiB or more, and
 *                every page is on nodes=0x..
 *   spill        mib= MiB: those that are not on node first= are on node then=, or when that is full
 *                (after least= MiB) on those of others=0x..
 *   reclaim      free blocks too small for what is wanted are given up (tried=1) before memory of
 *                other nodes is taken, or not
 *   set          after the program's own set_mempolicy(MPOL_BIND): 99.9 % of what it allocates
 *                afterwards is there; the rest was taken before
 *   shrink       the process's cpuset, of file=, is cut down to node to=: the same for what follows
 *
 * Runs on processor 0. mode= is given to set_mempolicy first, with nodes=. huge=1 takes blocks of
 * 8 MiB. */
#include "nodes.h"

static void *nothing(void *arg)
{
	return arg;
}

int main(int argc, char **argv)
{
	const char *what = t_arg(argv, "case", "bind");
	size_t bytes = MIB(t_long(argv, "mib", 96)), room, nr = 0, done = 0;
	uint64_t nodes = t_long(argv, "nodes", 0), seed = 31;
	long mode = t_long(argv, "mode", -1);
	int huge = t_long(argv, "huge", 0), node, full = !strcmp(what, "full");
	struct spread spread;
	struct block *blocks;
	pthread_t thread;
	char name[64], *at;

	(void)argc;
	if (full)
		bytes = GIB(4);
	room = bytes / 64;
	blocks = blocks_for(bytes);
	pin(0);
	/* As most programs that are worth a policy. */
	CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
	if (mode >= 0)
		CHECK(syscall(SYS_set_mempolicy, mode, &nodes, 65L) == 0);
	if (!strcmp(what, "shrink")) {
		const char *to = t_arg(argv, "to", "1");
		int fd = open(t_arg(argv, "file", ""), O_WRONLY);

		at = malloc(MIB(20));
		memset(at, 1, MIB(20));
		CHECK(fd >= 0 && write(fd, to, strlen(to)) == (ssize_t)strlen(to));
		close(fd);
	}
	if (!strcmp(what, "reclaim")) {
		char *small[80];

		for (node = 0; node < 80; node++)
			small[node] = memset(malloc(500000), 1, 500000);
		for (node = 0; node < 80; node += 2)
			free(small[node]);
	}
	while (done < bytes) {
		size_t size = huge ? MIB(8) : !strcmp(what, "reclaim") ? 900000 : full ? KIB(64) + t_next(&seed) % MIB(1) : t_size(&seed, KIB(256));

		at = malloc(size);
		if (!at)
			break;
		CHECK(nr < room);
		memset(at, 1, size);
		blocks[nr++] = (struct block){at, size};
		done += size;
	}
	CHECK(full ? done < bytes && errno == ENOMEM : done >= bytes);
	/* To count takes memory, too, of which the kernel may have none left for this program. */
	CHECK(syscall(SYS_set_mempolicy, 0, NULL, 0L) == 0);
	CHECK(!full || done >= MIB((size_t)t_long(argv, "least", 0)));
	spread = where(blocks, nr);
	snprintf(name, sizeof name, "policy %s%s", what, huge ? " huge" : "");
	show(name, &spread);
	if (full)
		printf("policy full: NULL after %zu MiB\n", done >> 20);
	if (!strcmp(what, "interleave")) {
		const char *weights = t_arg(argv, "weights", "");
		int has_weights = *weights != 0, sum = 0;

		for (node = 0; weights[node]; node++)
			sum += weights[node] - '0';
		if (!has_weights)
			sum = __builtin_popcountll(nodes);
		for (node = 0; node < MAX_NODES; node++)
			if (nodes >> node & 1) {
				double share = 100.0 * spread.on[node] / spread.all;
				double fair = 100.0 * (has_weights ? weights[node] - '0' : 1) / sum;

				CHECK(share > fair - 1 && share < fair + 1);
			}
		CHECK(among(&spread, nodes) == spread.all);
	} else if (!strcmp(what, "spill")) {
		int first = t_long(argv, "first", 2), then = t_long(argv, "then", 3);

		size_t others = among(&spread, t_long(argv, "others", 0));
		unsigned long misplaced = figure(first, "misplaced_bytes") / PAGE;

		CHECK(spread.on[first] > 0 && spread.on[then] > 0);
		CHECK(spread.on[then] * PAGE >= MIB((size_t)t_long(argv, "least", 0)));
		CHECK((spread.on[first] + spread.on[then] + others) * 1000 >= spread.all * 999);
		/* And the figures say so. */
		printf("policy spill: %lu pages of node %d are elsewhere by zonal\n", misplaced, first);
		CHECK(misplaced + spread.all / 50 >= spread.on[then] + others);
	} else if (!strcmp(what, "reclaim")) {
		unsigned long good = figure(0, "zone_reclaim_success"), bad = figure(0, "zone_reclaim_failed");

		printf("policy reclaim: %lu times enough, %lu times not\n", good, bad);
		CHECK((good > 0) == t_long(argv, "tried", 1) && spread.on[0] < spread.all);
	} else if (!strcmp(what, "bind") || full)
		CHECK(among(&spread, nodes) == spread.all);
	else
		CHECK(among(&spread, nodes) * 1000 >= spread.all * 999);
	drop(blocks, nr);
	return 0;
}
