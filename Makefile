# `make help` lists what there is.
PREFIX ?= /usr
DESTDIR ?=

.PHONY: all help setup demo test check install deb clean

all: ## Build the programs into .build/release.
	dev/setup
	dev/build mmfreed mmfreectl mmfree-gateway

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

setup: ## Install what building needs (sudo apt-get install).
	dev/setup --install

demo: ## Build, serve the demonstration model and stream text from it.
	dev/demo

test: ## Run all tests.
	dev/test

check: ## All that a change must pass.
	dev/check

install: ## Install programs, units and manuals into /usr (PREFIX=, DESTDIR=).
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" dev/install

deb: ## Build Debian packages into .build/deb.
	dev/build-deb

clean: ## Remove all that was built.
	rm -rf .build .build-*
