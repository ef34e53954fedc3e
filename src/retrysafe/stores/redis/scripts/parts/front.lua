-- A checkpoint is a fixed front, which `layout.py` draws, followed by id, text, reason, request and outcome.
local FRONT = '>BBBBI4I4I4i4I4I4ddddddddBI4i4i4i4'
local RUNNING, STREAMING, RELEASED, UNDOING, PARKED, DONE, UNDONE, EXPIRED = 1, 2, 3, 4, 5, 6, 7, 8
local UNDOING_FLAG, PIVOTED_FLAG = 1, 2
local FRONT_BYTES, FRONT_AND_ID_BYTES = 109, 364
