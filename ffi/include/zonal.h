/* zonal.h - what libzonal.so offers beyond malloc.
 *
 * Programs need none of this to run on zonal. Link with -lzonal, or look the functions up by
 * dlsym(RTLD_DEFAULT, ...) to work with and without the library. */
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
 * figure means. 0, or -1 with errno: EINVAL for another format, else what write(2) said. Does not
 * touch the heap; maps memory for the figures while it runs. */
int zonal_stats_print(int fd, int format);

/* Gives about `bytes` of cold memory back to the system; returns the bytes given back. */
size_t zonal_reclaim(size_t bytes);

/* Compares the allocator's counters and lists with each other: 0 if all agree. -1 after one line
 * on stderr if not. For tests; other threads should not allocate meanwhile. */
int zonal_validate(void);

/* "0.1.0" */
const char *zonal_version(void);

#ifdef __cplusplus
}
#endif
#endif
