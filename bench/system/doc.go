// Package system is what the systems that are compared have in common: the
// interface that each implements in a main package of its own under cmd, the
// workloads, the checks that it syncs and reads as it should, and Main.
package system
