#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# blob.sh PROGRAM OUT.S NAME: an assembler file that holds PROGRAM between NAME_start and NAME_end.
set -eu
program=$(realpath "$1")
cat >"$2" <<END
    .section .rodata
    .global $3_start, $3_end
    .hidden $3_start, $3_end
    .balign 16
$3_start:
    .incbin "$program"
$3_end:
    .byte 0
    .section .note.GNU-stack,"",@progbits
END
