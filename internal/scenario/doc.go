// Package scenario runs clusters of real processes, examples/node built for the
// purpose, and kills them. Its tests are all there is.
package scenario
