/* A thread that is pinned, of a realtime class where that is allowed, and nicer than the others starts the background
 * thread, which runs where and when the main thread may. (With one processor there is nothing to see of the first.) */
#include "t.h"
#include <dirent.h>
#include <sched.h>
#include <sys/prctl.h>

static int is_over, may_rise;

/* The background thread's number, once it has its name; 0 before. */
static pid_t find(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	pid_t found = 0;

	CHECK(tasks);
	while (!found && (entry = readdir(tasks))) {
		char path[300], name[32] = "";
		int fd;

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		if ((fd = open(path, O_RDONLY)) < 0)
			continue;
		if (read(fd, name, sizeof name - 1) > 0 && !strncmp(name, "zonal-kswapd", 12))
			found = atoi(entry->d_name);
		close(fd);
	}
	closedir(tasks);
	return found;
}

static void *special(void *unused)
{
	struct sched_param realtime = { .sched_priority = 1 };
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	CHECK(!sched_setaffinity(0, sizeof one, &one));
	/* What is not allowed is not tried out. */
	may_rise = !setpriority(PRIO_PROCESS, 0, 19) && !setpriority(PRIO_PROCESS, 0, 0) && !setpriority(PRIO_PROCESS, 0, 19);
	sched_setscheduler(0, SCHED_FIFO, &realtime);
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 100; i++) {
			char *p = malloc(300000);

			CHECK(p);
			memset(p, 1, 300000);
			HIDE(p);
			free(p);
		}
		usleep(10000);
	}
	return unused;
}

int main(void)
{
	cpu_set_t own, its;
	pthread_t thread;
	pid_t id = 0;

	CHECK(!sched_getaffinity(0, sizeof own, &own));
	CHECK(!pthread_create(&thread, NULL, special, NULL));
	for (int i = 0; i < 6000 && !id; i++) {
		usleep(10000);
		id = find();
	}
	CHECK(id);
	/* Under a filter it stays as it is. */
	if (prctl(PR_GET_SECCOMP) == 0) {
		CHECK(!sched_getaffinity(id, sizeof its, &its) && CPU_EQUAL(&own, &its));
		CHECK(sched_getscheduler(id) != SCHED_FIFO && sched_getscheduler(id) != SCHED_RR);
		CHECK(!may_rise || getpriority(PRIO_PROCESS, id) == getpriority(PRIO_PROCESS, 0));
	}
	__atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
	CHECK(!pthread_join(thread, NULL));
	return 0;
}
