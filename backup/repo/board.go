package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"etcd-steward/backup/store"
)

// plansBoard is where the documents of plans lie that are executed on several hosts (docs/PLANS.md).
const plansBoard = coordinationPrefix + "plans/"

const boardFormat = 1

// Board is a place of small documents that hosts share and move on by compare-and-swap. What they mean is their writers' business: the board knows names and
// kinds, seals what is written, and returns nothing that was not.
type Board struct {
	r      *Repo
	prefix string
	kindOf func(name string) string
}

// Plans is the board of plans. kindOf gives the kind of the document of a name, "" for a name that is none.
func (r *Repo) Plans(kindOf func(name string) string) *Board {
	return &Board{r: r, prefix: plansBoard, kindOf: kindOf}
}

func (b *Board) seal(name string, doc []byte) ([]byte, error) {
	kind := b.kindOf(name)
	if kind == "" {
		return nil, fmt.Errorf("write %s%s: no document has this name", b.prefix, name)
	}
	return Seal(kind, boardFormat, json.RawMessage(doc))
}

// Create writes a document that is not there yet; false if there is one.
func (b *Board) Create(ctx context.Context, name string, doc []byte) (bool, error) {
	return b.put(ctx, name, doc, store.PutOptions{IfAbsent: true})
}

// Swap replaces the version of a document that Read returned; false if there is another by now.
func (b *Board) Swap(ctx context.Context, name, version string, doc []byte) (bool, error) {
	if version == "" {
		return false, fmt.Errorf("write %s%s: no version to replace", b.prefix, name)
	}
	return b.put(ctx, name, doc, store.PutOptions{IfMatch: version})
}

func (b *Board) put(ctx context.Context, name string, doc []byte, opts store.PutOptions) (bool, error) {
	sealed, err := b.seal(name, doc)
	if err != nil {
		return false, err
	}
	_, err = b.r.write(ctx, b.prefix+name, sealed, opts)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, store.Exists), errors.Is(err, store.Changed), errors.Is(err, store.NotFound):
		return false, nil
	}
	return false, err
}

// Read returns a document and its version, or no version when there is none. The version may be older than the document, if someone wrote in between; then
// a Swap with it fails, which is what is wanted.
func (b *Board) Read(ctx context.Context, name string) (doc []byte, version string, err error) {
	kind := b.kindOf(name)
	if kind == "" {
		return nil, "", fmt.Errorf("read %s%s: no document has this name", b.prefix, name)
	}
	info, err := b.r.store.Head(ctx, b.prefix+name)
	if errors.Is(err, store.NotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	sealed, err := b.r.read(ctx, b.prefix+name)
	if errors.Is(err, store.NotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	var raw json.RawMessage
	if err := Unseal(kind, boardFormat, sealed, &raw); err != nil {
		return nil, "", fmt.Errorf("read %s%s: %w", b.prefix, name, err)
	}
	return raw, info.ETag, nil
}

// List names the documents of the board.
func (b *Board) List(ctx context.Context) ([]string, error) {
	var names []string
	for info, err := range b.r.store.List(ctx, b.prefix, "") {
		if err != nil {
			return nil, err
		}
		if name := strings.TrimPrefix(info.Key, b.prefix); b.kindOf(name) != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// Away is whether an error means that the store cannot be reached just now.
func (b *Board) Away(err error) bool {
	return errors.Is(err, store.Unreachable) || errors.Is(err, store.Unavailable)
}
