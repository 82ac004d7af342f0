//! CPython's stable ABI as we use it, declared by hand for 3.11 and later: no
//! headers at build time, one binary for every version.
//! https://docs.python.org/3/c-api/stable.html has the list of what may be used.

/// Also the first field of every instance of ours.
pub const Object = extern struct {
    ref_count: isize,
    type: *Type,
};
pub const Type = opaque {};
pub const ThreadState = opaque {};

pub const Visit = *const fn (*Object, ?*anyopaque) callconv(.c) c_int;

pub const Method = extern struct {
    name: ?[*:0]const u8 = null,
    function: ?*const anyopaque = null,
    flags: c_int = 0,
    doc: ?[*:0]const u8 = null,

    pub const var_args = 1;
    pub const keywords = 2;
    pub const no_args = 4;
    pub const one_arg = 8;
    pub const fast = 0x80;
};

pub const GetSet = extern struct {
    name: ?[*:0]const u8 = null,
    get: ?*const anyopaque = null,
    set: ?*const anyopaque = null,
    doc: ?[*:0]const u8 = null,
    closure: ?*anyopaque = null,
};

pub const Member = extern struct {
    name: ?[*:0]const u8 = null,
    type: c_int = 0,
    offset: isize = 0,
    flags: c_int = 0,
    doc: ?[*:0]const u8 = null,

    /// `T_PYSSIZET` and `READONLY` of `structmember.h`.
    pub const size_type = 19;
    pub const read_only = 1;
};

pub const Slot = extern struct {
    id: c_int = 0,
    value: ?*const anyopaque = null,
};

/// Numbers of `typeslots.h` and `moduleobject.h`.
pub const slot = struct {
    pub const bf_getbuffer = 1;
    pub const mp_length = 4;
    pub const mp_subscript = 5;
    pub const sq_contains = 41;
    pub const sq_item = 44;
    pub const sq_length = 45;
    pub const tp_dealloc = 52;
    pub const tp_doc = 56;
    pub const tp_hash = 59;
    pub const tp_iter = 62;
    pub const tp_iternext = 63;
    pub const tp_methods = 64;
    pub const tp_new = 65;
    pub const tp_repr = 66;
    pub const tp_richcompare = 67;
    pub const tp_members = 72;
    pub const tp_getset = 73;
    pub const mod_exec = 2;
};

pub const TypeSpec = extern struct {
    name: [*:0]const u8,
    basic_size: c_int,
    item_size: c_int = 0,
    flags: c_uint = 0,
    slots: [*]const Slot,
};

pub const ModuleDef = extern struct {
    base: extern struct {
        head: extern struct { ref_count: isize = 1, type: ?*Type = null } = .{},
        init: ?*const anyopaque = null,
        index: isize = 0,
        copy: ?*Object = null,
    } = .{},
    name: [*:0]const u8,
    doc: ?[*:0]const u8 = null,
    size: isize,
    methods: ?[*]const Method = null,
    slots: ?[*]const Slot = null,
    traverse: ?*const fn (*Object, Visit, ?*anyopaque) callconv(.c) c_int = null,
    clear: ?*const fn (*Object) callconv(.c) c_int = null,
    free: ?*const fn (*Object) callconv(.c) void = null,
};

/// Part of the stable ABI since 3.11.
pub const Buffer = extern struct {
    bytes: ?*anyopaque,
    object: ?*Object,
    size: isize,
    item_size: isize,
    read_only: c_int,
    dimension_count: c_int,
    format: ?[*:0]u8,
    shape: ?[*]isize,
    strides: ?[*]isize,
    suboffsets: ?[*]isize,
    internal: ?*anyopaque,

    /// `PyBUF_WRITABLE`, `PyBUF_FORMAT`, `PyBUF_ND`, `PyBUF_STRIDES`, `PyBUF_F_CONTIGUOUS`
    pub const writable = 1;
    pub const with_format = 4;
    pub const nd = 8;
    pub const with_strides = 0x10 | nd;
    pub const f_contiguous = 0x40 | with_strides;
};

pub const compare_equal = 2;
pub const compare_not_equal = 3;

pub extern var _Py_NoneStruct: Object;
pub extern var _Py_NotImplementedStruct: Object;
pub extern var PyExc_BufferError: *Object;
pub extern var PyExc_IndexError: *Object;
pub extern var PyExc_KeyError: *Object;
pub extern var PyExc_RuntimeError: *Object;
pub extern var PyExc_TypeError: *Object;
pub extern var PyExc_UnicodeEncodeError: *Object;
pub extern var PyExc_ValueError: *Object;
pub extern var PyBool_Type: Object;
pub extern var PyByteArray_Type: Object;
pub extern var PyFloat_Type: Object;
pub extern var PyMemoryView_Type: Object;
pub extern var PySlice_Type: Object;

pub extern fn Py_IncRef(?*Object) void;
pub extern fn Py_DecRef(?*Object) void;
pub extern fn Py_BuildValue(format: [*:0]const u8, ...) ?*Object;

pub extern fn PyErr_CheckSignals() c_int;
pub extern fn PyErr_Clear() void;
pub extern fn PyErr_ExceptionMatches(exception: *Object) c_int;
pub extern fn PyErr_NoMemory() ?*Object;
pub extern fn PyErr_Occurred() ?*Object;
pub extern fn PyErr_SetObject(exception: *Object, value: ?*Object) void;

pub extern fn PyEval_SaveThread() *ThreadState;
pub extern fn PyEval_RestoreThread(*ThreadState) void;

pub extern fn PyArg_ParseTuple(args: *Object, format: [*:0]const u8, ...) c_int;
pub extern fn PyArg_ParseTupleAndKeywords(args: *Object, kwargs: ?*Object, format: [*:0]const u8, names: [*]const ?[*:0]const u8, ...) c_int;

pub extern fn PyModuleDef_Init(*ModuleDef) ?*Object;
pub extern fn PyModule_AddObjectRef(module: *Object, name: [*:0]const u8, value: *Object) c_int;
pub extern fn PyModule_AddStringConstant(module: *Object, name: [*:0]const u8, value: [*:0]const u8) c_int;
pub extern fn PyModule_GetState(module: *Object) ?*anyopaque;
pub extern fn PyImport_ImportModule(name: [*:0]const u8) ?*Object;

pub extern fn PyType_FromModuleAndSpec(module: *Object, spec: *const TypeSpec, bases: ?*Object) ?*Object;
pub extern fn PyType_GenericAlloc(*Type, item_count: isize) ?*Object;
pub extern fn PyType_GetFlags(*Type) c_ulong;
pub extern fn PyType_GetModuleState(*Type) ?*anyopaque;
pub extern fn PyType_GetName(*Type) ?*Object;
pub extern fn PyType_IsSubtype(*Type, *Type) c_int;

pub extern fn PyObject_CallFunction(callable: *Object, format: ?[*:0]const u8, ...) ?*Object;
pub extern fn PyObject_CallMethod(*Object, name: [*:0]const u8, format: ?[*:0]const u8, ...) ?*Object;
pub extern fn PyObject_ClearWeakRefs(object: *Object) void;
pub extern fn PyErr_Fetch(kind: *?*Object, value: *?*Object, traceback: *?*Object) void;
pub extern fn PyErr_Restore(kind: ?*Object, value: ?*Object, traceback: ?*Object) void;
pub extern fn PyObject_Free(?*anyopaque) void;
pub extern fn PyObject_GetAttrString(*Object, name: [*:0]const u8) ?*Object;
pub extern fn PyObject_GetIter(*Object) ?*Object;
pub extern fn PyObject_HashNotImplemented(*Object) isize;
pub extern fn PyObject_IsInstance(*Object, class: *Object) c_int;
pub extern fn PyObject_IsTrue(*Object) c_int;
pub extern fn PyObject_RichCompare(*Object, *Object, operation: c_int) ?*Object;
pub extern fn PyObject_SelfIter(*Object) ?*Object;
pub extern fn PyObject_SetAttrString(*Object, name: [*:0]const u8, value: *Object) c_int;
pub extern fn PyOS_FSPath(*Object) ?*Object;

pub extern fn PyBool_FromLong(c_long) ?*Object;
pub extern fn PyIndex_Check(*Object) c_int;
pub extern fn PyNumber_AsSsize_t(*Object, overflow_exception: ?*Object) isize;
pub extern fn PyNumber_Index(*Object) ?*Object;
pub extern fn PyFloat_AsDouble(*Object) f64;
pub extern fn PyFloat_FromDouble(f64) ?*Object;
pub extern fn PyLong_AsLongLongAndOverflow(*Object, overflow: *c_int) c_longlong;
pub extern fn PyLong_FromLongLong(c_longlong) ?*Object;
pub extern fn PyLong_FromUnsignedLongLong(c_ulonglong) ?*Object;

pub extern fn PyBytes_AsStringAndSize(*Object, bytes: *[*]u8, size: *isize) c_int;
pub extern fn PyBytes_FromObject(*Object) ?*Object;
pub extern fn PyBytes_FromStringAndSize(?[*]const u8, size: isize) ?*Object;
pub extern fn PyUnicode_AsEncodedString(*Object, encoding: [*:0]const u8, errors: [*:0]const u8) ?*Object;
pub extern fn PyUnicode_AsUTF8AndSize(*Object, size: *isize) ?[*]const u8;
pub extern fn PyUnicode_DecodeUTF8([*]const u8, size: isize, errors: [*:0]const u8) ?*Object;

pub extern fn PyBuffer_FillInfo(*Buffer, exporter: *Object, bytes: ?*anyopaque, size: isize, read_only: c_int, flags: c_int) c_int;
pub extern fn PyBuffer_Release(*Buffer) void;
pub extern fn PyObject_GetBuffer(*Object, *Buffer, flags: c_int) c_int;
pub extern fn PyMemoryView_FromObject(*Object) ?*Object;

pub extern fn PyCapsule_GetPointer(*Object, name: [*:0]const u8) ?*anyopaque;
pub extern fn PyCapsule_IsValid(*Object, name: [*:0]const u8) c_int;
pub extern fn PyCapsule_New(*anyopaque, name: [*:0]const u8, destructor: *const fn (*Object) callconv(.c) void) ?*Object;

pub extern fn PyDict_Contains(*Object, key: *Object) c_int;
pub extern fn PyDict_New() ?*Object;
pub extern fn PyDict_SetItem(*Object, key: *Object, value: *Object) c_int;
pub extern fn PyDict_SetItemString(*Object, key: [*:0]const u8, value: *Object) c_int;
pub extern fn PyDict_Update(*Object, other: *Object) c_int;
pub extern fn PyList_Append(*Object, item: *Object) c_int;
pub extern fn PyList_GetItem(*Object, isize) ?*Object;
pub extern fn PyList_New(count: isize) ?*Object;
pub extern fn PyList_SetItem(*Object, isize, value: *Object) c_int;
pub extern fn PyList_Size(*Object) isize;
pub extern fn PyMapping_Items(*Object) ?*Object;
pub extern fn PySequence_GetSlice(*Object, start: isize, stop: isize) ?*Object;
pub extern fn PySequence_Repeat(*Object, count: isize) ?*Object;
pub extern fn PySequence_Tuple(*Object) ?*Object;
pub extern fn PySlice_AdjustIndices(count: isize, start: *isize, stop: *isize, step: isize) isize;
pub extern fn PySlice_Unpack(*Object, start: *isize, stop: *isize, step: *isize) c_int;
pub extern fn PyTuple_GetItem(*Object, isize) ?*Object;
pub extern fn PyTuple_New(count: isize) ?*Object;
pub extern fn PyTuple_SetItem(*Object, isize, value: *Object) c_int;
pub extern fn PyTuple_Size(*Object) isize;

/// What C has macros for: types with a bit of their own in the type's flags.
pub const Family = enum(u5) { int = 24, list = 25, tuple = 26, bytes = 27, str = 28, dict = 29 };

/// Whether the object is of this type or of a type derived from it.
pub fn isA(object: *Object, family: Family) bool {
    return (PyType_GetFlags(object.type) >> @intFromEnum(family)) & 1 != 0;
}

pub fn isBool(object: *Object) bool {
    return object.type == typeAt(&PyBool_Type);
}

pub fn isFloat(object: *Object) bool {
    return PyType_IsSubtype(object.type, typeAt(&PyFloat_Type)) != 0;
}

pub fn isByteArray(object: *Object) bool {
    return PyType_IsSubtype(object.type, typeAt(&PyByteArray_Type)) != 0;
}

/// A type is an object too, of a layout that is not ours to know.
pub fn typeAt(object: *Object) *Type {
    return @ptrCast(object);
}

pub fn none() *Object {
    return newRef(&_Py_NoneStruct);
}

pub fn newRef(object: *Object) *Object {
    Py_IncRef(object);
    return object;
}
