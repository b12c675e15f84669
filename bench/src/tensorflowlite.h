/* What tflitec 0.7.0 names and the library of 2.9 does not have. Nothing of ours uses it, so nothing of it is linked. */

enum { TfLiteType_kTfLiteUInt16 = 17, TfLiteType_kTfLiteInt4 = 18, TfLiteType_kTfLiteBFloat16 = 19 };

typedef struct TfLiteSignatureRunner TfLiteSignatureRunner;
int32_t TfLiteInterpreterGetSignatureCount(const TfLiteInterpreter*);
const char* TfLiteInterpreterGetSignatureKey(const TfLiteInterpreter*, int32_t);
TfLiteSignatureRunner* TfLiteInterpreterGetSignatureRunner(const TfLiteInterpreter*, const char*);
void TfLiteSignatureRunnerDelete(TfLiteSignatureRunner*);
TfLiteStatus TfLiteSignatureRunnerAllocateTensors(TfLiteSignatureRunner*);
TfLiteStatus TfLiteSignatureRunnerInvoke(TfLiteSignatureRunner*);
TfLiteStatus TfLiteSignatureRunnerResizeInputTensor(TfLiteSignatureRunner*, const char*, const int*, int32_t);
size_t TfLiteSignatureRunnerGetInputCount(const TfLiteSignatureRunner*);
size_t TfLiteSignatureRunnerGetOutputCount(const TfLiteSignatureRunner*);
const char* TfLiteSignatureRunnerGetInputName(const TfLiteSignatureRunner*, int32_t);
const char* TfLiteSignatureRunnerGetOutputName(const TfLiteSignatureRunner*, int32_t);
TfLiteTensor* TfLiteSignatureRunnerGetInputTensor(TfLiteSignatureRunner*, const char*);
const TfLiteTensor* TfLiteSignatureRunnerGetOutputTensor(const TfLiteSignatureRunner*, const char*);
