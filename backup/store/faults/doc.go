// Package faults makes stores fail in the ways that real ones do: lost answers, server errors, cut bodies, conditions that are ignored,
// death between two operations. Transport works below the S3 store, on HTTP; Wrap works above any store. Every random choice
// comes from one printed seed. It promises nothing outside of tests.
package faults
