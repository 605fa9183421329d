# The newcomer's door. Meson and Ninja do the work; this file knows what to install first.
#
#   make          build the tool and the library in build/
#   make demo     install what is missing, build, and run a real build job in a fresh sandbox
#   make test     install what is missing, then test everything that can be tested on this machine
#   make fuzz     every fuzz target for 60 seconds
#   make lint     clang-tidy and clang-format over the sources
#   make install  to PREFIX (default /usr/local), below DESTDIR
#   make clean    remove what was built; caches and images stay
PREFIX ?= /usr/local
BUILD ?= build

.PHONY: all demo test fuzz lint install clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/setup build
	meson setup $(BUILD) --prefix $(PREFIX)

demo:
	@scripts/demo

test:
	@scripts/test

fuzz:
	@scripts/setup test
	@scripts/fuzz 60

lint: all
	@scripts/setup test
	@scripts/lint

install: all
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD)

clean:
	rm -rf build build-*
