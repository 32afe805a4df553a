/* Processes made by vfork and posix_spawn, while other threads allocate: no fork handler runs, and a vfork child that
 * allocates works on the heap of its parent. */
#include "t.h"
#include <spawn.h>

extern char **environ;
static int stop;

static void *busy(void *arg)
{
	t_churn(3 + (uintptr_t)arg, &stop);
	return NULL;
}

int main(int argc, char **argv)
{
	long count = t_long(argv, "count", 300);
	char *echo[] = { "/bin/sh", "-c", "exit 7", NULL };
	pthread_t thread;

	(void)argc;
	CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
	for (long i = 0; i < count; i++) {
		char *before = malloc(500);
		char *volatile made = NULL;
		int status;
		pid_t pid;

		t_fill(before, 500, i);
		if (i % 2) {
			CHECK((pid = vfork()) >= 0);
			if (pid == 0) {
				made = malloc(3000);
				memset(made, 1, 3000);
				free(malloc(KIB(200)));
				execve(echo[0], echo, environ);
				_exit(99);
			}
			CHECK(made && made[2999] == 1);
			free(made);
		} else {
			CHECK(posix_spawn(&pid, echo[0], NULL, NULL, echo, environ) == 0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
		VERIFY(before, 500, i);
		free(before);
	}
	stop = 1;
	pthread_join(thread, NULL);
	return 0;
}
