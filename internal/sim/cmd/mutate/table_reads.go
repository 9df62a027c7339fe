package main

// What a read may be told.
var ofReads = []mutant{
	{
		name: "reads are served before the epoch of the term",
		file: "reader.go",
		old:  "st.CommandTerm != term {",
		new:  "st.CommandTerm > term {",
		by:   trial{seed: 1, why: stale},
	},
}

// stale is what the checkers say of a read that is too old.
const stale = `read what was true at|not linearizable|found keys absent|had been answered`
