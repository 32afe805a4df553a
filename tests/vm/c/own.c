/* What zonal.h says of placement, page by page: policies of threads, memory on a node of choice.
 *
 * Needs four nodes; runs on processor 0. */
#include "nodes.h"
#include "../../../ffi/include/zonal.h"

static __typeof__(zonal_set_policy) *set;
static __typeof__(zonal_get_policy) *get;
static __typeof__(zonal_alloc_onnode) *on_node;
static __typeof__(zonal_alloc_thisnode) *this_node;
static uint64_t seed = 3;

/* Allocates `bytes` and says where they are. */
static struct spread taken(const char *name, size_t bytes)
{
	struct block *blocks = blocks_for(bytes);
	size_t nr = fill(blocks, bytes / 64, bytes, &seed);
	struct spread spread = where(blocks, nr);

	show(name, &spread);
	drop(blocks, nr);
	return spread;
}

static void give(int mode, unsigned long nodes)
{
	unsigned long mask = ~0ul;
	int got = -1;

	CHECK(set(mode, &nodes, 64) == 0);
	CHECK(get(&got, &mask, 64) == 0 && got == mode && mask == nodes);
}

static void *child(void *arg)
{
	int mode = -1;
	struct spread spread;

	(void)arg;
	pin(0);
	/* A policy is a thread's own. */
	CHECK(get(&mode, NULL, 0) == 0 && mode == ZONAL_POLICY_DEFAULT);
	spread = taken("own: another thread", MIB(8));
	CHECK(among(&spread, 1) * 1000 >= spread.all * 999);
	return NULL;
}

static void policies(void)
{
	struct spread spread;
	pthread_t thread;
	int node;

	give(ZONAL_POLICY_BIND, 1 << 2);
	spread = taken("own: bind", MIB(24));
	CHECK(among(&spread, 1 << 2) == spread.all);
	CHECK(pthread_create(&thread, NULL, child, NULL) == 0 && pthread_join(thread, NULL) == 0);

	give(ZONAL_POLICY_PREFERRED, 1 << 3);
	spread = taken("own: preferred", MIB(24));
	CHECK(among(&spread, 1 << 3) == spread.all);

	give(ZONAL_POLICY_PREFERRED_MANY, 1 << 2 | 1 << 3);
	spread = taken("own: preferred-many", MIB(24));
	CHECK(among(&spread, 1 << 2) == spread.all);

	CHECK(set(ZONAL_POLICY_DEFAULT, NULL, 0) == 0);
	spread = taken("own: default", MIB(24));
	CHECK(among(&spread, 1) * 1000 >= spread.all * 999);

	/* Others would see what the slabs have left: a heap of its own shows the shares. */
	give(ZONAL_POLICY_INTERLEAVE, 0xe);
	spread = taken("own: interleave", MIB(192));
	for (node = 1; node < 4; node++) {
		double share = 100.0 * spread.on[node] / spread.all;

		CHECK(share > 100.0 / 3 - 1 && share < 100.0 / 3 + 1);
	}
	CHECK(set(ZONAL_POLICY_LOCAL, NULL, 0) == 0);
}

static void bad_input(void)
{
	unsigned long none = 0, two = 3, far = 1ul << 40;
	int mode;

	errno = 0;
	CHECK(set(ZONAL_POLICY_BIND, NULL, 0) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_INTERLEAVE, &none, 64) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_PREFERRED, &two, 64) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_LOCAL, &two, 64) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_BIND, &far, 64) == -1 && errno == EINVAL);
	CHECK(set(77, &two, 64) == -1 && errno == EINVAL);
	CHECK(set(-1, &two, 64) == -1 && errno == EINVAL);
	/* Nothing of it was taken. */
	CHECK(get(&mode, NULL, 0) == 0 && mode == ZONAL_POLICY_LOCAL);
	CHECK(on_node(64, 4) == NULL && errno == EINVAL);
	CHECK(on_node(64, -1) == NULL && errno == EINVAL);
	CHECK(this_node((size_t)-1, 1) == NULL && errno == ENOMEM);
}

static void on_nodes(void)
{
	static const size_t sizes[] = {1, 100, 4000, KIB(40), MIB(1), MIB(9)};
	struct block blocks[6 * 4 * 8];
	struct spread spread;
	size_t i, nr = 0;
	int node;

	for (node = 0; node < 4; node++) {
		size_t first = nr;

		for (i = 0; i < 6 * 8; i++) {
			size_t size = sizes[i % 6];
			char *at = i < 24 ? on_node(size, node) : this_node(size, node);

			CHECK(at != NULL && ((uintptr_t)at & 15) == 0);
			memset(at, 1, size);
			blocks[nr++] = (struct block){at, size};
		}
		spread = where(blocks + first, nr - first);
		show("own: onnode", &spread);
		CHECK(among(&spread, 1ull << node) == spread.all);
	}
	drop(blocks, nr);
}

/* A node is asked for more than it has: one answers NULL, the other goes on elsewhere. */
static void full(void)
{
	struct block *blocks = blocks_for(MIB(600));
	size_t nr = 0, size = MIB(1);
	struct spread spread;
	char *at;

	while ((at = this_node(size, 3)) != NULL && nr < 600) {
		memset(at, 1, size);
		blocks[nr++] = (struct block){at, size};
	}
	CHECK(at == NULL && errno == ENOMEM && nr > 300);
	spread = where(blocks, nr);
	show("own: thisnode, full", &spread);
	CHECK(among(&spread, 1 << 3) == spread.all);
	at = on_node(size, 3);
	CHECK(at != NULL);
	memset(at, 1, size);
	spread = where(&(struct block){at, size}, 1);
	show("own: onnode, full", &spread);
	/* The nearest to 3 is 2. */
	CHECK(among(&spread, 1 << 2) == spread.all);
	free(at);
	drop(blocks, nr);
}

int main(void)
{
	set = (__typeof__(set))dlsym(RTLD_DEFAULT, "zonal_set_policy");
	get = (__typeof__(get))dlsym(RTLD_DEFAULT, "zonal_get_policy");
	on_node = (__typeof__(on_node))dlsym(RTLD_DEFAULT, "zonal_alloc_onnode");
	this_node = (__typeof__(this_node))dlsym(RTLD_DEFAULT, "zonal_alloc_thisnode");
	CHECK(set && get && on_node && this_node);
	pin(0);
	policies();
	bad_input();
	on_nodes();
	full();
	return 0;
}
