/* A library that does nothing: what any preload costs. */
int zonal_test_empty;
