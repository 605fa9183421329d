# The newcomer's door. Meson and Ninja do the work; this file knows what to install first.
#
#   make          build the tool and the library in build/
#   make demo     install what is missing, build, and run a real build job in a fresh sandbox
#   make kernel   build the guest kernel that boots fastest, and import it (doc/boot.md)
#   make test     install what is missing, then test everything that can be tested on this machine
#   make fuzz     every fuzz target for DAYFLY_FUZZ_SECONDS (10)
#   make fuzz-nightly  every fuzz target for 60 seconds: half an hour, for a timer to start
#   make lint     clang-tidy and clang-format over the sources, shellcheck over the scripts
#   make install  to PREFIX (default /usr/local), below DESTDIR
#   make clean    remove build directories, build/home with them
#
# BUILD is another directory to build in. It counts for make, kernel, install and clean; the others use build/
# and those beside it.
PREFIX ?= /usr/local
BUILD ?= build

.PHONY: all demo kernel test fuzz fuzz-nightly lint install clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/setup build
	meson setup $(BUILD) --prefix $(PREFIX)

demo:
	@scripts/demo

# KERNEL="--with my.config --update": options of kernel/build
kernel: all
	@scripts/setup kernel
	@package=$$(kernel/build $(KERNEL)) && $(BUILD)/cli/dayfly kernel import "$$package"

test:
	@scripts/test

fuzz:
	@scripts/setup test
	@scripts/fuzz $(or $(DAYFLY_FUZZ_SECONDS),10)

fuzz-nightly:
	@DAYFLY_FUZZ_SECONDS=60 $(MAKE) --no-print-directory fuzz

lint: all
	@scripts/setup test
	@scripts/lint

install: all
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD)
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || PATH=$$PATH:/sbin ldconfig

clean:
	rm -rf $(BUILD) build build-*
