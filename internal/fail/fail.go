// Package fail gives an error what a user needs beside its text: an exit code, which is API, and one hint with the next command.
// Neither is part of the error's text, so code that wraps or compares errors is not affected by them.
package fail

import (
	"context"
	"errors"
)

// Code is a process exit code of steward and stewardd.
type Code int

// The exit codes. They are API: documented in the man page, and never renumbered.
const (
	OK          Code = 0   // done and verified
	Failed      Code = 1   // tried and failed; nothing is lost
	Usage       Code = 2   // wrong usage: flags, arguments, config
	Wanting     Code = 3   // checked, and found wanting
	Unsafe      Code = 4   // refused as unsafe
	Interrupted Code = 130 // by SIGINT or SIGTERM
)

// Error carries a code and a hint on top of a cause.
type Error struct {
	Code Code
	Hint string // one line, lower case, without "hint:"; "" when there is none
	Err  error
}

// Error is the cause's text alone.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New wraps err with a code and a hint; nil stays nil.
func New(code Code, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Hint: hint, Err: err}
}

// Hint wraps err with a hint and keeps its exit code; nil stays nil.
func Hint(err error, hint string) error { return New(ExitCode(err), err, hint) }

// Refused is an error of code Unsafe: what was asked would endanger data or quorum.
func Refused(err error, hint string) error { return New(Unsafe, err, hint) }

// ExitCode is the code to leave with after err: the outermost one that an [*Error] carries, Interrupted for a cancelled
// context, Failed for any other error, OK for nil.
func ExitCode(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	return Failed
}

// HintOf is the outermost hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
