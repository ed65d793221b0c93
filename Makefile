# etcd-steward. `make demo` shows it work; `make test` proves it. `make help` lists the rest.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X etcd-steward/internal/version.Version=$(VERSION) -X etcd-steward/internal/version.Commit=$(COMMIT)
GOBUILD  = CGO_ENABLED=0 go build -trimpath -buildvcs=false
PREFIX  ?= /usr/local
T        = integration/tools
TOOLS    = $(addprefix bin/tools/,etcd-3.5 etcd-3.6 etcd-3.7 etcdctl etcdutl versitygw age age-keygen)

.PHONY: help build tools setup test soak demo bench lint fmt install clean
help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

build: ## bin/steward and bin/stewardd
	$(GOBUILD) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/steward ./cmd/stewardd

tools: $(TOOLS) ## the real etcd 3.5, 3.6, 3.7, etcdctl, etcdutl, versitygw and age that the tests run
bin/tools/etcd-%: $(T)/etcd-%/go.mod $(T)/etcd-%/go.sum
	cd $(T)/etcd-$* && $(GOBUILD) -o $(CURDIR)/$@ go.etcd.io/etcd/server/v3
bin/tools/etcdctl bin/tools/etcdutl: $(T)/etcd-3.7/go.mod $(T)/etcd-3.7/go.sum
	cd $(T)/etcd-3.7 && $(GOBUILD) -o $(CURDIR)/$@ go.etcd.io/etcd/$(@F)/v3
bin/tools/versitygw: $(T)/versitygw/go.mod $(T)/versitygw/go.sum
	cd $(T)/versitygw && $(GOBUILD) -o $(CURDIR)/$@ github.com/versity/versitygw/cmd/versitygw
bin/tools/age bin/tools/age-keygen: $(T)/age/go.mod $(T)/age/go.sum
	cd $(T)/age && $(GOBUILD) -o $(CURDIR)/$@ filippo.io/age/cmd/$(@F)
bin/tools/golangci-lint: $(T)/golangci-lint/go.mod $(T)/golangci-lint/go.sum
	cd $(T)/golangci-lint && $(GOBUILD) -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

setup: ## what the tests need beside Go, from Debian packages, and the root file system of the machines they boot, when run as root there
	@integration/setup
# The tests feed damaged files to bbolt, which trusts its pages: without checkptr that is an error which is caught, not the end of the process.
test: setup tools build ## everything that can be tested on this machine, with the race detector
	go vet ./...
	go test -race -gcflags=go.etcd.io/bbolt/...=-d=checkptr=0 -timeout 40m ./...
	go test -timeout 20m -run '^(TestEveryFlipIsFound|TestExact)$$' ./backup ./backup/rebuild # in full, which the race detector would make many times as long
SOAK ?= 8
soak: setup tools build ## SOAK rounds of the random histories and storms, longer and each with a new seed, which a failure prints
	for i in $$(seq $(SOAK)); do STEWARD_REVISIONS=100000 STEWARD_SOAK=5m go test -race -count 1 -timeout 2h \
	  -run 'TestExact|TestAnyCover|TestStorm|TestRandom' ./backup/rebuild ./backup/changes/... ./cmd/stewardd || exit; done
lint: bin/tools/golangci-lint ## golangci-lint with the walls
	bin/tools/golangci-lint run ./...
fmt: bin/tools/golangci-lint
	bin/tools/golangci-lint fmt ./...
demo: setup tools build ## a cluster is backed up to S3, lost, and brought back, in two minutes
	go run ./integration/demo
bench: setup tools build ## the figures, as ratios of two things run in turn, into docs/BENCHMARKS.md
	go run ./integration/bench -o docs/BENCHMARKS.md

install: build ## binaries, units, example config, man page and completions below PREFIX and /etc (DESTDIR is honoured)
	install -Dm755 -t $(DESTDIR)$(PREFIX)/bin bin/steward bin/stewardd
	install -Dm644 -t $(DESTDIR)/etc/systemd/system systemd/stewardd.service systemd/stewardd-credentials.path systemd/stewardd-credentials.service
	sed -i 's|/usr/local/bin|$(PREFIX)/bin|' $(DESTDIR)/etc/systemd/system/stewardd.service
	install -Dm644 systemd/steward.sysusers $(DESTDIR)/usr/lib/sysusers.d/steward.conf
	install -Dm644 systemd/steward.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/steward.conf
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/etcd-steward systemd/steward.yaml.example systemd/10-kubespray.conf docs/*.md LICENSE
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man8 bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	bin/steward man > $(DESTDIR)$(PREFIX)/share/man/man8/steward.8
	bin/steward completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/steward
	bin/steward completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_steward
	bin/steward completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/steward.fish
	[ -n "$(DESTDIR)" ] || { systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload; }
clean:
	rm -rf bin
