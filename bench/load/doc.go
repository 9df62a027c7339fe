// Package load is a closed-loop load generator: each caller does one operation
// after another, and what they and their process used is counted. All systems
// that are compared are driven by this one.
package load
