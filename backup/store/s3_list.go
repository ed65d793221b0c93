package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// pageSize is the most that S3 gives at once.
const pageSize = 1000

// List implements Store. What fits into one page costs one request; more is listed folder by folder, several at once (s3_spans.go).
func (s *s3Store) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkList(prefix, after); err != nil {
			yield(Info{}, err)
			return
		}
		o := &ordered{last: after, yield: yield}
		if err := s.list(ctx, prefix, after, o); err != nil && !errors.Is(err, errStopped) {
			yield(Info{}, err)
		}
	}
}

func (s *s3Store) list(ctx context.Context, prefix, after string, o *ordered) error {
	first, err := s.page(ctx, pageQuery{prefix: prefix, after: after})
	if err != nil {
		return err
	}
	if err := o.give(first.infos); err != nil || first.next == "" {
		return err
	}
	spans, err := s.spans(ctx, prefix, o.last)
	if err != nil {
		return err
	}
	if len(spans) < 2 {
		return s.rest(ctx, prefix, first.next, o.give)
	}
	return s.listSpans(ctx, spans, o.give)
}

// rest lists pages from a continuation token on.
func (s *s3Store) rest(ctx context.Context, prefix, token string, give func([]Info) error) error {
	for token != "" {
		page, err := s.page(ctx, pageQuery{prefix: prefix, token: token})
		if err != nil {
			return err
		}
		if err := give(page.infos); err != nil {
			return err
		}
		token = page.next
	}
	return nil
}

// errStopped means that the caller of List has seen enough.
var errStopped = errors.New("stopped")

// ordered passes objects on, and holds the store to the order that it promises.
type ordered struct {
	last  string
	yield func(Info, error) bool
	begun bool
}

func (o *ordered) give(infos []Info) error {
	for _, info := range infos {
		switch {
		case ValidateKey(info.Key) != nil:
			continue // a folder, or what somebody else put there
		case info.Key <= o.last && !o.begun:
			continue // a server that does not know StartAfter
		case info.Key <= o.last:
			return &Error{Op: "list", Key: info.Key, Kind: Unsupported, Err: fmt.Errorf("the store lists out of order: after %q", o.last)}
		}
		o.begun = true
		o.last = info.Key
		if !o.yield(info, nil) {
			return errStopped
		}
	}
	return nil
}

func checkList(prefix, after string) error {
	err := validatePrefix(prefix)
	if err == nil {
		err = validatePrefix(after)
	}
	if err != nil {
		return &Error{Op: "list", Key: prefix, Kind: Invalid, Err: err}
	}
	return nil
}

// pageQuery asks for one page. Keys are relative to the store.
type pageQuery struct {
	prefix, after string
	token         string // of the page before
	folders       bool   // stop at the next slash: folders are given by name
}

type listPage struct {
	infos   []Info
	folders []string // with their slashes
	next    string   // continuation token; "" on the last page
}

func (s *s3Store) page(ctx context.Context, q pageQuery) (listPage, error) {
	base := ""
	if s.prefix != "" {
		base = s.prefix + "/"
	}
	in := &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: aws.String(base + q.prefix), MaxKeys: aws.Int32(pageSize),
		// Somebody else's key may hold characters that XML cannot.
		EncodingType: types.EncodingTypeUrl,
	}
	if q.after != "" {
		in.StartAfter = aws.String(base + q.after)
	}
	if q.token != "" {
		in.ContinuationToken = &q.token
	}
	if q.folders {
		in.Delimiter = aws.String("/")
	}
	var out *s3.ListObjectsV2Output
	err := s.do(ctx, "list", q.prefix, func(ctx context.Context) (err error) {
		out, err = s.client.ListObjectsV2(ctx, in)
		return err
	})
	if err != nil {
		return listPage{}, err
	}
	page, err := readPage(out, base)
	if err == nil && aws.ToBool(out.IsTruncated) && (page.next == "" || page.next == q.token) {
		err = errors.New("the store's listing does not end")
	}
	if err != nil {
		return listPage{}, &Error{Op: "list", Key: q.prefix, Kind: Unsupported, Err: err}
	}
	return page, nil
}

// readPage takes over what lies below base.
func readPage(out *s3.ListObjectsV2Output, base string) (listPage, error) {
	relative := func(key *string) (string, bool, error) {
		name := aws.ToString(key)
		if out.EncodingType == types.EncodingTypeUrl {
			var err error
			if name, err = url.QueryUnescape(name); err != nil {
				return "", false, fmt.Errorf("decode a key: %w", err)
			}
		}
		rel, ok := strings.CutPrefix(name, base)
		return rel, ok, nil
	}
	page := listPage{infos: make([]Info, 0, len(out.Contents))}
	if aws.ToBool(out.IsTruncated) {
		page.next = aws.ToString(out.NextContinuationToken)
	}
	for _, o := range out.Contents {
		key, ok, err := relative(o.Key)
		if err != nil {
			return listPage{}, err
		}
		if ok {
			page.infos = append(page.infos, Info{
				Key: key, Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified),
			})
		}
	}
	for _, p := range out.CommonPrefixes {
		folder, ok, err := relative(p.Prefix)
		if err != nil {
			return listPage{}, err
		}
		if ok {
			page.folders = append(page.folders, folder)
		}
	}
	return page, nil
}
