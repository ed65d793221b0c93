package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"testing"
)

// TestNoEnd: the error of a connection that broke off is never taken for the end of an object, and is otherwise what it was.
func TestNoEnd(t *testing.T) {
	cause := &url.Error{Op: "Get", URL: "https://s3/x", Err: fmt.Errorf("%w: %w", fs.ErrPermission, io.EOF)}
	err := fmt.Errorf("read segment x: %w", &Error{Op: "get", Key: "x", Kind: Unreachable, Err: cause})
	var u *url.Error
	switch {
	case errors.Is(err, io.EOF):
		t.Error("it is io.EOF")
	case !errors.Is(err, Unreachable) || !errors.Is(err, fs.ErrPermission) || !errors.As(err, &u) || KindOf(err) != Unreachable:
		t.Errorf("%v lost its kind or its cause", err)
	case err.Error() != `read segment x: get x: `+string(Unreachable)+`: Get "https://s3/x": permission denied: EOF`:
		t.Errorf("%v", err)
	}
}
