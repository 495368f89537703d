/* Does nothing, as the first process of a sandbox: holds its namespaces, buries its orphans, ends when told to. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(void) {
  sigset_t all;
  sigemptyset(&all);
  sigaddset(&all, SIGTERM);
  sigaddset(&all, SIGINT);
  sigaddset(&all, SIGCHLD);
  sigprocmask(SIG_BLOCK, &all, NULL);
  for (int got; sigwait(&all, &got) == 0;) {
    if (got != SIGCHLD) exit(0);
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
  }
  return 1;
}
