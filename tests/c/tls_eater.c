/* A library that takes static thread-local storage as zonal does, and more of it. */
static __thread char eaten[200] __attribute__((tls_model("initial-exec")));

char *eat(void)
{
	return eaten;
}
