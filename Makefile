# The front door. `make demo` shows it working, `make test` proves it.
PREFIX ?= /usr
DESTDIR ?=

.PHONY: all demo test check install deb clean

all:
	dev/setup
	swift build -c release

demo: ## Set up, build, serve the demonstration model and stream text from it.
	dev/demo

test: ## Set up and run all tests.
	dev/test

check: ## All that a change must pass.
	dev/check

install: ## Install the programs, units and manuals.
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" dev/install

deb: ## Build Debian packages.
	dev/build-deb

clean:
	rm -rf .build .build-*
