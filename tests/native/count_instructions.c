/* A plugin of qemu-user that prints how many instructions a program executes. What a plugin needs of qemu is declared
   here, as Debian has no package with its header. */
#include <inttypes.h>
#include <stdio.h>

typedef uint64_t plugin_id;
struct block;
__attribute__((visibility("default"))) int qemu_plugin_version = 1;
size_t qemu_plugin_tb_n_insns(const struct block *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct block *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);

static uint64_t count;
static void executed(unsigned cpu, void *instructions) { (void)cpu, count += (uintptr_t)instructions; }
static void translated(plugin_id id, struct block *b) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(b, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(b));
}
static void finished(plugin_id id, void *nothing) {
  (void)id, (void)nothing;
  fprintf(stderr, "%" PRIu64 " instructions\n", count);
}
__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
