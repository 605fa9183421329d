#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# soname.sh NAME COMPILER...: what the loader has to be asked for to get the library that -lNAME links with.
set -eu
name=$1
shift
file=$("$@" -print-file-name="lib$name.so")
readelf -d "$file" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' | grep .
