/* zonal.h about placement, as far as a machine with one node shows it: what is taken, what is refused,
 * and that memory of a node is memory like any other. */
#include "t.h"
#include <dlfcn.h>
#include "../../ffi/include/zonal.h"

static __typeof__(zonal_set_policy) *set;
static __typeof__(zonal_get_policy) *get;
static __typeof__(zonal_alloc_onnode) *on_node;
static __typeof__(zonal_alloc_thisnode) *this_node;

static void *other_thread(void *arg)
{
	int mode = -1;

	CHECK(get(&mode, NULL, 0) == 0 && mode == ZONAL_POLICY_DEFAULT);
	free(arg);
	return NULL;
}

int main(void)
{
	unsigned long zero = 1, none = 0, two = 3, wide[2] = {0, 1}, mask[2] = {~0ul, ~0ul};
	static const int modes[] = {ZONAL_POLICY_PREFERRED, ZONAL_POLICY_BIND, ZONAL_POLICY_INTERLEAVE,
				    ZONAL_POLICY_PREFERRED_MANY, ZONAL_POLICY_WEIGHTED_INTERLEAVE};
	static const size_t sizes[] = {0, 1, 24, 5000, 100000, MIB(6)};
	pthread_t thread;
	int mode = -1;
	size_t i;

	set = (__typeof__(set))dlsym(RTLD_DEFAULT, "zonal_set_policy");
	get = (__typeof__(get))dlsym(RTLD_DEFAULT, "zonal_get_policy");
	on_node = (__typeof__(on_node))dlsym(RTLD_DEFAULT, "zonal_alloc_onnode");
	this_node = (__typeof__(this_node))dlsym(RTLD_DEFAULT, "zonal_alloc_thisnode");
	if (!set)
		return 0; /* another library */
	CHECK(get && on_node && this_node);

	CHECK(get(&mode, mask, 128) == 0 && mode == ZONAL_POLICY_DEFAULT && !mask[0] && !mask[1]);
	for (i = 0; i < sizeof modes / sizeof *modes; i++) {
		errno = 77;
		CHECK(set(modes[i], &zero, 1) == 0 && errno == 77);
		CHECK(get(&mode, mask, 64) == 0 && mode == modes[i] && mask[0] == 1);
		CHECK(get(NULL, NULL, 0) == 0);
		CHECK(get(NULL, mask, 0) == -1 && errno == EINVAL);
		free(malloc(100));
	}
	CHECK(set(ZONAL_POLICY_BIND, NULL, 0) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_BIND, &none, 64) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_BIND, wide, 128) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_LOCAL, &zero, 64) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_PREFERRED, &two, 64) == -1 && errno == EINVAL);
	CHECK(set(ZONAL_POLICY_DEFAULT, &zero, 64) == -1 && errno == EINVAL);
	CHECK(set(1000, &zero, 64) == -1 && errno == EINVAL);
	CHECK(get(&mode, NULL, 0) == 0 && mode == ZONAL_POLICY_WEIGHTED_INTERLEAVE);
	CHECK(set(ZONAL_POLICY_LOCAL, NULL, 0) == 0);

	for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *a = on_node(sizes[i], 0), *b = this_node(sizes[i], 0);

		CHECK(a && b && a != b && (((uintptr_t)a | (uintptr_t)b) & 15) == 0);
		memset(a, 1, sizes[i]);
		memset(b, 2, sizes[i]);
		a = realloc(a, sizes[i] + 1000);
		CHECK(a && (sizes[i] == 0 || (a[0] == 1 && a[sizes[i] - 1] == 1)));
		free(a);
		CHECK(pthread_create(&thread, NULL, other_thread, b) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
	}
	CHECK(on_node(1, 63) == NULL && errno == EINVAL);
	CHECK(on_node(1, 1000) == NULL && errno == EINVAL);
	CHECK(this_node(1, -5) == NULL && errno == EINVAL);
	CHECK(on_node((size_t)-1, 0) == NULL && errno == ENOMEM);
	return 0;
}
