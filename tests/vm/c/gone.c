/* The memory of a node goes offline while a thread there uses it, and comes back. What the thread has
 * keeps its content, what it takes meanwhile is on a nearest node that is left, and the figures say
 * that the node may not be used. Once it is back, new memory comes from there again. */
#include "nodes.h"
#include <dirent.h>

static int gone;

/* Writes to the state of all the node's memory; the kernel needs time to move what is there. */
static void set_memory(const char *state)
{
	char path[300];
	struct dirent *entry;
	int nr = 0;
	DIR *dir;

	snprintf(path, sizeof path, "/sys/devices/system/node/node%d", gone);
	dir = opendir(path);
	CHECK(dir != NULL);
	while ((entry = readdir(dir))) {
		int fd, tries = 0;

		if (strncmp(entry->d_name, "memory", 6) || entry->d_name[6] < '0' || entry->d_name[6] > '9')
			continue;
		snprintf(path, sizeof path, "/sys/devices/system/memory/%s/state", entry->d_name);
		fd = open(path, O_WRONLY);
		CHECK(fd >= 0);
		while (write(fd, state, strlen(state)) < 0) {
			if (++tries == 300)
				FAIL("%s: %s: %s", path, state, strerror(errno));
			usleep(100000);
		}
		close(fd);
		nr++;
	}
	closedir(dir);
	printf("gone: %d pieces of memory are %s\n", nr, state);
	CHECK(nr > 0);
}

static struct spread take(const char *name, size_t bytes, struct block *blocks, size_t *nr)
{
	static uint64_t seed = 7;
	struct spread spread;

	*nr = fill(blocks, bytes / 64, bytes, &seed);
	spread = where(blocks, *nr);
	show(name, &spread);
	return spread;
}

int main(int argc, char **argv)
{
	struct block *blocks[3] = {blocks_for(MIB(48)), blocks_for(MIB(48)), blocks_for(MIB(96))};
	struct spread spread;
	size_t nr[3], i, k;
	uint64_t left;

	(void)argc;
	gone = t_long(argv, "node", 3);
	pin(cpu_of(gone));
	spread = take("gone: before", MIB(48), blocks[0], &nr[0]);
	CHECK(spread.on[gone] * 1000 >= spread.all * 999);
	CHECK(figure(gone, "usable") == 1);

	set_memory("offline");
	left = nearest(gone);
	CHECK(!(left >> gone & 1));
	spread = where(blocks[0], nr[0]);
	show("gone: moved by the kernel", &spread);
	CHECK(spread.on[gone] == 0 && spread.nowhere == 0);
	for (i = 0; i < nr[0]; i++)
		for (k = 0; k < blocks[0][i].size; k++)
			CHECK(blocks[0][i].at[k] == 0x5a);
	spread = take("gone: meanwhile", MIB(48), blocks[1], &nr[1]);
	CHECK(among(&spread, left) == spread.all);
	CHECK(figure(gone, "usable") == 0 && figure(__builtin_ctzll(left), "usable") == 1);
	drop(blocks[0], nr[0]);
	drop(blocks[1], nr[1]);

	set_memory("online_movable");
	spread = take("gone: after", MIB(96), blocks[2], &nr[2]);
	CHECK(spread.on[gone] > 0 && figure(gone, "usable") == 1);
	drop(blocks[2], nr[2]);
	return 0;
}
