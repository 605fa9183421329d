#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# agent-blob.sh PROGRAM OUT.S: an assembler file that holds PROGRAM between two symbols.
set -eu
program=$(realpath "$1")
cat >"$2" <<END
    .section .rodata
    .global initramfs_agent_start, initramfs_agent_end
    .hidden initramfs_agent_start, initramfs_agent_end
    .balign 16
initramfs_agent_start:
    .incbin "$program"
initramfs_agent_end:
    .byte 0
    .section .note.GNU-stack,"",@progbits
END
