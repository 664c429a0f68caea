// Package wire is the bytes of DNS messages: it checks them, walks them,
// patches them and appends new ones.
//
// Bytes from outside become checked values at two doors, [ParseQuery] and
// [ParseResponse]; whoever holds a [Query] or a [Response] may rely on its
// being well formed. The package unpacks no RDATA that it need not look into
// and keeps no state; its values are safe for concurrent reading.
package wire
