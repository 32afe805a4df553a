/* zonal.h - what libzonal.so offers beyond malloc.
 *
 * Programs need none of this to run on zonal. Link with -lzonal, or look the functions up by
 * dlsym(RTLD_DEFAULT, ...) to work with and without the library.
 *
 * Any thread may call any of them at any time, but for zonal_validate. They set errno only when they
 * fail. */
#ifndef ZONAL_H
#define ZONAL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZONAL_FORMAT_TEXT 0
#define ZONAL_FORMAT_JSON 1
#define ZONAL_FORMAT_PROMETHEUS 2

/* Writes the statistics to a file descriptor: text in the shape of /proc/zoneinfo and its like,
 * JSON (docs/stats.schema.json), or Prometheus text exposition. docs/STATISTICS.md says what each
 * figure means. 0, or -1 with errno: EINVAL for another format, ENOMEM without memory for the figures,
 * else what write(2) said. Does not touch the heap; maps memory for the figures while it runs. Before
 * the first allocation there is nothing to write. */
int zonal_stats_print(int fd, int format);

/* Gives about `bytes` of free memory back to the system, cold or not, of all threads; returns the bytes
 * given back, which may be more or less. SIZE_MAX for all, as malloc_trim(0) does. The kernel is asked
 * (mincore) what it has of what goes, so that memory that was never touched does not count. It does
 * count where the kernel does not say, under a seccomp filter, which may kill who asks, and with pressure:off. */
size_t zonal_reclaim(size_t bytes);

/* Starts a heap profile of what is allocated from now on: one sample in `rate` bytes on average, the
 * configured rate (512 KiB) if 0; more than 16 MiB count as 16 MiB. What an earlier profile found is
 * forgotten; one that runs goes on as it is. 0, or -1 with errno: ENOMEM, or EBUSY while another thread
 * starts or stops one. */
int zonal_profile_start(size_t rate);

/* Stops it, if one runs; what it found can still be written. 0, or -1 with errno: EBUSY as above. */
int zonal_profile_stop(void);

/* Writes the profile as text for `zonal profile` and pprof, at any time after its start. 0, or -1
 * with errno: ENODATA if none was ever started, else what write(2) said. Allocates nothing. */
int zonal_profile_dump(int fd);

/* Compares the allocator's counters and lists with each other: 0 if all agree. -1 after one line
 * on stderr if not. For tests; other threads should not allocate meanwhile. */
int zonal_validate(void);

/* "0.1.0": a string that stays valid as long as the library is loaded. */
const char *zonal_version(void);

/* On which nodes memory of the calling thread is placed, as set_mempolicy(2) has it, for what zonal
 * takes from now on. The modes are those of <numaif.h>; `nodemask` has `maxnode` bits. The policy
 * stands before that of ZONAL_CONF and the kernel's own, until ZONAL_POLICY_DEFAULT takes it away or
 * the thread ends. BIND answers ENOMEM when its nodes are full: nobody is killed.
 *
 * 0, or -1 with errno: EINVAL when none of the nodes may be used, or nodes are missing, or given where
 * the mode takes none; EAGAIN in a signal handler that interrupted malloc. Other signal handlers must
 * not call it either. */
#define ZONAL_POLICY_DEFAULT 0
#define ZONAL_POLICY_PREFERRED 1
#define ZONAL_POLICY_BIND 2
#define ZONAL_POLICY_INTERLEAVE 3
#define ZONAL_POLICY_LOCAL 4
#define ZONAL_POLICY_PREFERRED_MANY 5
#define ZONAL_POLICY_WEIGHTED_INTERLEAVE 6
int zonal_set_policy(int mode, const unsigned long *nodemask, unsigned long maxnode);

/* What zonal_set_policy was last given by this thread; ZONAL_POLICY_DEFAULT if nothing. Either pointer
 * may be NULL. EINVAL when `maxnode` bits are too few. */
int zonal_get_policy(int *mode, unsigned long *nodemask, unsigned long maxnode);

/* Memory on that node, whatever the policies, to be freed by free(). When the node is full,
 * zonal_alloc_onnode takes the nearest that is not, zonal_alloc_thisnode answers NULL with ENOMEM.
 * NULL with EINVAL for a node that there is not. realloc() may move it to the thread's node. */
void *zonal_alloc_onnode(size_t size, int node);
void *zonal_alloc_thisnode(size_t size, int node);

#ifdef __cplusplus
}
#endif
#endif
