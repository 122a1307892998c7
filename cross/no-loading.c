/* A static program loads nothing: whoever looks for a function of the system by its name is told at once that there is
   none, and makes the system call himself. musl's own answer on MIPS needs a register that only code that can be moved
   sets, and jumps into nowhere without. */
void *dlsym(void *handle, const char *name) {
    (void)handle;
    (void)name;
    return 0;
}
