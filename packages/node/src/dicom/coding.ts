/** Decoded text; `repaired` says that the bytes did not fit the declared set and another one was taken. The stored bytes stay as they are. */
export interface DecodedText {
  readonly text: string;
  readonly repaired: boolean;
}

/** A coding that bytes can be read in: ours by name, or a label of the WHATWG encoding standard. */
export type Coding = 'ascii' | 'latin1' | 'jis-x0201' | 'jis-x0208' | 'jis-x0212' | WhatwgLabel;

/** Labels of the WHATWG encoding standard that a decoder is opened for. */
export type WhatwgLabel = 'utf-8' | 'gb18030' | 'gbk' | 'euc-kr' | 'windows-874' | 'windows-1254' | `iso-8859-${number}`;
