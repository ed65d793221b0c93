package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

const (
	// spanWorkers is how many folders are listed at once.
	spanWorkers = 4
	// spansWanted is when looking for further folders ends; spanRequests bounds what the looking may cost.
	spansWanted  = 4 * spanWorkers
	spanRequests = 12
	// spanPages is how many pages of a folder may wait for their turn.
	spanPages = 2
)

// span is a part of the key space: a folder's objects (prefix ends with a slash) or single objects that are known already.
type span struct {
	prefix string
	after  string
	infos  []Info
	leaf   bool // nothing to gain from looking inside
}

// first is where the span begins in the order of keys.
func (s span) first() string {
	if s.prefix != "" {
		return s.prefix
	}
	return s.infos[0].Key
}

// spans divides what sorts after a key into folders, so that they can be listed at the same time. Folders do not overlap, whatever is
// in them, and sort as their keys do; so the division is right for any content, only better for some.
func (s *s3Store) spans(ctx context.Context, prefix, after string) ([]span, error) {
	found, err := s.divide(ctx, prefix, after)
	if err != nil || found == nil {
		return nil, err
	}
	for range spanRequests {
		i := slices.IndexFunc(found, func(sp span) bool { return !sp.leaf })
		if i < 0 || len(found) >= spansWanted {
			break
		}
		inside, err := s.divide(ctx, found[i].prefix, after)
		if err != nil {
			return nil, err
		}
		if inside == nil {
			found[i].leaf = true
			continue
		}
		found = slices.Replace(found, i, i+1, inside...)
	}
	return found, nil
}

// divide looks at one folder; nil means that it cannot be divided, or into too many parts.
func (s *s3Store) divide(ctx context.Context, prefix, after string) ([]span, error) {
	page, err := s.page(ctx, pageQuery{prefix: prefix, folders: true})
	if err != nil || page.next != "" || len(page.folders) == 0 {
		return nil, err
	}
	var found []span
	for _, folder := range page.folders {
		// A key inside is after the whole folder's beginning: servers disagree whether StartAfter would show the folder then.
		if folder > after || strings.HasPrefix(after, folder) {
			found = append(found, span{prefix: folder, after: after})
		}
	}
	for _, info := range page.infos {
		if info.Key > after {
			found = append(found, span{infos: []Info{info}, leaf: true})
		}
	}
	slices.SortFunc(found, func(a, b span) int { return strings.Compare(a.first(), b.first()) })
	return found, nil
}

// result is a page of a span, or why there is none.
type result struct {
	infos []Info
	err   error
}

// listSpans lists spans at the same time and gives their objects in order.
func (s *s3Store) listSpans(ctx context.Context, spans []span, give func([]Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	pages := make([]chan result, len(spans))
	for i := range pages {
		pages[i] = make(chan result, spanPages)
	}
	slots := make(chan struct{}, spanWorkers)
	// Spans begin in order, so the one whose turn it is always has a slot.
	wg.Go(func() {
		for i, sp := range spans {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				defer func() { <-slots }()
				s.listSpan(ctx, sp, pages[i])
			})
		}
	})
	for i := range spans {
		if err := drain(ctx, pages[i], give); err != nil {
			return err
		}
	}
	return nil
}

func drain(ctx context.Context, pages <-chan result, give func([]Info) error) error {
	for {
		select {
		case r, ok := <-pages:
			if !ok {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			if err := give(r.infos); err != nil {
				return err
			}
		case <-ctx.Done():
			return interrupted(ctx, "list", "")
		}
	}
}

// listSpan sends a span's pages and closes the channel; only an ended context leaves it open.
func (s *s3Store) listSpan(ctx context.Context, sp span, pages chan<- result) {
	send := func(r result) error {
		select {
		case pages <- r:
			return nil
		case <-ctx.Done():
			return errStopped
		}
	}
	give := func(infos []Info) error {
		// Not every server knows StartAfter.
		return send(result{infos: slices.DeleteFunc(infos, func(i Info) bool { return i.Key <= sp.after })})
	}
	if sp.infos != nil {
		if give(sp.infos) == nil {
			close(pages)
		}
		return
	}
	page, err := s.page(ctx, pageQuery{prefix: sp.prefix, after: sp.after})
	if err == nil {
		if err = give(page.infos); err == nil {
			err = s.rest(ctx, sp.prefix, page.next, give)
		}
	}
	if err == nil || send(result{err: err}) == nil {
		close(pages)
	}
}
