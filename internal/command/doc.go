// Package command is the format of what goes through the raft log: envelopes
// that carry batches of operations, and the results that apply gives them.
// docs/format.md has the byte diagrams; testdata has a golden file for each
// encoded thing. Decoders treat their input as hostile: they return
// kv.ErrCorrupt or kv.ErrFormatTooNew, never panic, and allocate in proportion
// to the input.
//
// Decoded keys and values alias the input; nothing here copies.
package command
